//! Finds gaps between samples, using only the headers of blocks.

use super::{builder::GAP_INTERVALS, header::Header};

/// Longest planned interval of samples, ms: what the recorder uses unless memory is scarce. Headers do not contain it.
const INTERVAL_MS: f64 = 1_000.0;

/// A period without samples within one boot of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Wall time before the gap began, ms since the Unix epoch; for a gap in a block, the beginning of the block.
    pub from_ms: i64,
    /// Wall time after the gap ended, ms since the Unix epoch; for a gap in a block, the end of the block.
    pub until_ms: i64,
    /// Length by the clock that does not step, ms.
    pub length_ms: u64,
}

/// The longest gap in each block, and the gaps between blocks of one boot.
///
/// A recorder begins with a new block, so the time in which it restarted is a gap between two blocks. Headers cannot tell
/// it from any other gap there.
pub fn gaps(headers: &[Header]) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut before: Option<&Header> = None;
    for header in headers {
        if let Some(before) = before.filter(|before| before.boot_id == header.boot_id) {
            let length_ms = header.first_boottime_ns.saturating_sub(before.last_boottime_ns) / 1_000_000;
            if length_ms as f64 > GAP_INTERVALS * INTERVAL_MS {
                gaps.push(Gap {
                    from_ms: before.latest_wall_ms,
                    until_ms: header.earliest_wall_ms,
                    length_ms,
                });
            }
        }
        if header.longest_gap_ms > 0 {
            let (from_ms, until_ms) = (header.earliest_wall_ms, header.latest_wall_ms);
            gaps.push(Gap { from_ms, until_ms, length_ms: header.longest_gap_ms.into() });
        }
        before = Some(header);
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::BootId;

    fn block(boot: u8, first_ms: u64, last_ms: u64, longest_gap_ms: u32) -> Header {
        Header {
            boot_id: BootId([boot; 16]),
            records: 2,
            longest_gap_ms,
            earliest_wall_ms: first_ms as i64,
            latest_wall_ms: last_ms as i64,
            first_boottime_ns: first_ms * 1_000_000,
            last_boottime_ns: last_ms * 1_000_000,
            ..Header::default()
        }
    }

    #[test]
    fn restarts_of_the_recorder_are_gaps_between_blocks() {
        let headers = [
            block(1, 0, 299_000, 0),
            // The next sample came in time, or as late as is no gap within a block either.
            block(1, 300_000, 420_000, 0),
            block(1, 421_750, 430_000, 0),
            block(1, 433_000, 440_000, 0),
            block(1, 441_900, 450_000, 1_800),
            // The kernel booted: its clock began again.
            block(2, 500_000, 510_000, 0),
        ];
        let found: Vec<_> =
            gaps(&headers).iter().map(|gap| (gap.from_ms, gap.until_ms, gap.length_ms)).collect();
        assert_eq!(found, [(430_000, 433_000, 3_000), (440_000, 441_900, 1_900), (441_900, 450_000, 1_800)]);
    }
}
