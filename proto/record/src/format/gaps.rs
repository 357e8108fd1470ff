//! Finds gaps between samples, using only the headers of blocks.

use super::header::Header;

/// Maximum time between two blocks that is not a gap, ms. Headers do not contain the interval of samples.
const BETWEEN_MS: u64 = 3_000;

/// A period without samples while the host was running.
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
pub fn gaps(headers: &[Header]) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut before: Option<&Header> = None;
    for header in headers {
        if let Some(before) = before.filter(|before| before.boot_id == header.boot_id) {
            let length_ms = header.first_boottime_ns.saturating_sub(before.last_boottime_ns) / 1_000_000;
            if length_ms > BETWEEN_MS {
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
