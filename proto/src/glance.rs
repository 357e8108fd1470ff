//! A record at a glance, as the message that a host answers with: the same for who reads its disk.

use std::cmp::Reverse;

use record::{Gap, Header, Sample, gaps};

use crate::pb::{self, InfoReply};

/// Most gaps that are told; the shorter ones are left out.
const GAPS: usize = 100;

/// What the headers of all blocks say together. What else is known of the record is for the caller to add.
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

/// The earliest wall time in a record, and that of its newest block, ms since the Unix epoch; `None` if there is none.
///
/// The newest is what comes last: a clock that was ahead for a while before does not count.
pub fn range(headers: &[Header]) -> Option<(i64, i64)> {
    let earliest = headers.iter().map(|header| header.earliest_wall_ms).min()?;
    Some((earliest, headers.last()?.latest_wall_ms))
}

fn message(gap: Gap) -> pb::Gap {
    pb::Gap { from_unix_ms: gap.from_ms, until_unix_ms: gap.until_ms, length_ms: gap.length_ms }
}

/// What the newest sample says of the recorder. Whether one runs, and how large the record is, no sample knows.
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
