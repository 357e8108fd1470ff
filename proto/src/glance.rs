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
    // Headers of write-ahead files have no lengths.
    let sealed: Vec<Header> = headers.iter().filter(|header| header.body_bytes > 0).copied().collect();
    InfoReply {
        oldest_unix_ms: range.map_or(0, |(oldest, _)| oldest),
        newest_unix_ms: range.map_or(0, |(_, newest)| newest),
        samples: samples(headers),
        blocks: sealed.len() as u64,
        block_samples: samples(&sealed),
        block_bytes: sealed.iter().map(|header| header.block_bytes() as u64).sum(),
        gaps: found.into_iter().map(message).collect(),
        restarts: headers.windows(2).filter(|pair| pair[0].boot_id != pair[1].boot_id).count() as u64,
        ..InfoReply::default()
    }
}

/// Number of samples, each counted once: a fetched record may hold a block and an earlier part of it.
fn samples(headers: &[Header]) -> u64 {
    let mut next = 0;
    let fresh = |header: &Header| {
        let end = header.last_sequence().saturating_add(1);
        let fresh = end.saturating_sub(header.first_sequence.max(next));
        next = end.max(next);
        fresh
    };
    headers.iter().map(fresh).sum()
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

#[cfg(test)]
mod tests {
    use record::BootId;

    use super::*;

    /// A block with a sample a second, or a write-ahead file; a sample's number is its second.
    fn header(boot: u8, seconds: std::ops::RangeInclusive<u64>, body_bytes: u32) -> Header {
        let (first, last) = (*seconds.start(), *seconds.end());
        Header {
            boot_id: BootId([boot; 16]),
            body_bytes,
            records: (last - first + 1) as u32,
            first_sequence: first,
            earliest_wall_ms: first as i64 * 1_000,
            latest_wall_ms: last as i64 * 1_000,
            first_boottime_ns: first * 1_000_000_000,
            last_boottime_ns: last * 1_000_000_000,
            ..Header::default()
        }
    }

    #[test]
    fn only_blocks_count_for_what_a_sample_takes() {
        let headers = [header(1, 101..=110, 904), header(1, 111..=120, 1_904), header(1, 121..=130, 0)];
        let all = info(&headers);
        assert_eq!((all.samples, all.blocks), (30, 2));
        assert_eq!((all.block_samples, all.block_bytes), (20, 3_000));
        let young = info(&headers[2..]);
        assert_eq!((young.samples, young.blocks), (10, 0));
        assert_eq!((young.block_samples, young.block_bytes), (0, 0));
    }

    #[test]
    fn a_sample_in_two_blocks_counts_once() {
        let all = info(&[header(1, 101..=104, 404), header(1, 101..=110, 904), header(1, 109..=112, 0)]);
        assert_eq!((all.samples, all.block_samples, all.block_bytes), (12, 10, 1_500));
    }

    #[test]
    fn a_recorder_that_restarted_left_a_gap_and_a_kernel_a_restart() {
        let headers = [header(1, 101..=110, 904), header(1, 112..=120, 904), header(2, 121..=130, 0)];
        let all = info(&headers);
        let gaps: Vec<_> = all.gaps.iter().map(|gap| (gap.from_unix_ms, gap.length_ms)).collect();
        assert_eq!((gaps, all.restarts), (vec![(110_000, 2_000)], 1));
    }
}
