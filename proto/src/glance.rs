//! Summarizes a record as the message of a host's answer. A controller that reads a disk uses the same code.

use std::cmp::Reverse;

use record::{Gap, Header, Sample, gaps};

use crate::pb::{self, InfoReply};

/// Maximum number of gaps in a summary: the longest ones.
const GAPS: usize = 100;

/// Summarizes the headers of all blocks. The caller adds the rest.
pub fn info(headers: &[Header]) -> InfoReply {
    let mut found = gaps(headers);
    found.sort_by_key(|gap| Reverse(gap.length_ms));
    found.truncate(GAPS);
    found.sort_by_key(|gap| gap.from_ms);
    let range = range(headers);
    InfoReply {
        oldest_unix_ms: range.map_or(0, |(oldest, _)| oldest),
        newest_unix_ms: range.map_or(0, |(_, newest)| newest),
        samples: headers.iter().map(|header| u64::from(header.records)).sum(),
        blocks: headers.len() as u64,
        gaps: found.into_iter().map(message).collect(),
        restarts: headers.windows(2).filter(|pair| pair[0].boot_id != pair[1].boot_id).count() as u64,
        ..InfoReply::default()
    }
}

/// The earliest wall time in a record and the latest of its last block, ms since the Unix epoch; `None` without blocks.
///
/// The last block decides, not the maximum: earlier samples may come from a clock that was ahead for a while.
pub fn range(headers: &[Header]) -> Option<(i64, i64)> {
    let earliest = headers.iter().map(|header| header.earliest_wall_ms).min()?;
    Some((earliest, headers.last()?.latest_wall_ms))
}

fn message(gap: Gap) -> pb::Gap {
    pb::Gap { from_unix_ms: gap.from_ms, until_unix_ms: gap.until_ms, length_ms: gap.length_ms }
}

/// The state of the recorder from the newest sample. The caller adds `running` and `bytes`, which no sample contains.
pub fn recorder(newest: &Sample) -> pb::Recorder {
    pb::Recorder {
        last_sample_unix_ms: newest.wall_ms,
        collector: newest.collector.name().into(),
        missing: newest.sources.missing().map(Into::into).collect(),
        cpu_ppm: newest.own_cpu_ppm(),
        sweep_us: newest.sweep_ns / 1_000,
        dropped: newest.dropped,
        ..pb::Recorder::default()
    }
}
