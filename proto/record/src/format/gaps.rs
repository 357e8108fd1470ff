//! Times without samples, from what blocks say about themselves.

use super::header::Header;

/// Time that may pass between two blocks before it counts as a gap, ms. Blocks do not say how often samples are due.
const BETWEEN_MS: u64 = 3_000;

/// A time without samples while the host was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Wall time before which it began, ms since the Unix epoch; of a gap inside a block, where the block begins.
    pub from_ms: i64,
    /// Wall time after which it ended; of a gap inside a block, where the block ends.
    pub until_ms: i64,
    /// How long it was by the clock that does not step.
    pub length_ms: u64,
}

/// The longest gap in each block, and those between blocks of one boot.
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
