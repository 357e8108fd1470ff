//! Decides how much history to keep: pure functions of the existing segments.

use std::time::Duration;

use crate::Limits;

/// Limits of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Maximum disk space of all files together, in bytes.
    pub max_bytes: u64,
    /// Older history is deleted.
    pub max_age: Duration,
    /// Maximum size of a block.
    pub block: Limits,
    /// Maximum size of a segment in bytes. Retention deletes whole segments.
    pub segment_bytes: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_bytes: 256 << 20,
            max_age: Duration::from_secs(14 * 24 * 3600),
            block: Limits { records: 300, bytes: 1 << 20 },
            segment_bytes: 4 << 20,
        }
    }
}

impl Policy {
    /// Size of one write-ahead file in bytes: a full block, and room for the record that fills it.
    pub fn tail_bytes(&self) -> u64 {
        (self.block.bytes + self.block.bytes / 4) as u64
    }
}

/// The data of a segment that retention needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Length of the file, or the disk space that it takes, in bytes.
    pub bytes: u64,
    /// Wall time of its newest sample, ms since the Unix epoch.
    pub last_wall_ms: i64,
}

/// Maximum number of segments deleted for their age when a new segment starts.
///
/// A clock may be wrong by years for a while (an empty battery, a resumed guest). Without this limit, that would delete the
/// only data about the outage before it. Segments that expired while a host was off are deleted a few at a time; the size
/// limit always applies.
const AGED_AT_ONCE: usize = 2;

/// Number of oldest segments to delete so that `incoming` more bytes fit. The newest is never deleted.
///
/// `segments` are in order, oldest first. Only a prefix is deleted, so a wrong clock never leaves a gap.
pub fn oversized(segments: &[Extent], incoming: u64, policy: &Policy) -> usize {
    let mut total = segments.iter().map(|segment| segment.bytes).sum::<u64>().saturating_add(incoming);
    let must_go = |segment: &&Extent| {
        let goes = total > policy.max_bytes;
        total -= segment.bytes;
        goes
    };
    but_newest(segments).iter().take_while(must_go).count()
}

/// Number of oldest segments to delete for their age when a new segment starts.
pub fn aged(segments: &[Extent], now_ms: i64, policy: &Policy) -> usize {
    let max_age = i64::try_from(policy.max_age.as_millis()).unwrap_or(i64::MAX);
    let oldest_kept = now_ms.saturating_sub(max_age);
    let is_aged = |segment: &&Extent| segment.last_wall_ms < oldest_kept;
    but_newest(segments).iter().take(AGED_AT_ONCE).take_while(is_aged).count()
}

fn but_newest(segments: &[Extent]) -> &[Extent] {
    &segments[..segments.len().saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        max_bytes: 100,
        max_age: Duration::from_millis(1_000),
        block: Limits { records: 60, bytes: 10 },
        segment_bytes: 10,
    };

    fn extents(of: &[(u64, i64)]) -> Vec<Extent> {
        of.iter().map(|&(bytes, last_wall_ms)| Extent { bytes, last_wall_ms }).collect()
    }

    #[test]
    fn nothing_goes_while_there_is_room() {
        assert_eq!(oversized(&extents(&[(40, 5_000), (40, 5_100)]), 20, &POLICY), 0);
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        assert_eq!(oversized(&extents(&[(40, 5_000), (40, 5_050), (40, 5_100)]), 30, &POLICY), 2);
    }

    #[test]
    fn what_is_too_old_goes_whatever_its_size() {
        let segments = extents(&[(1, 3_000), (1, 4_099), (1, 4_100), (1, 5_100)]);
        assert_eq!(aged(&segments, 5_100, &POLICY), 2);
    }

    #[test]
    fn a_clock_that_is_years_ahead_for_a_while_costs_little() {
        let segments = extents(&[(1, 5_000); 40]);
        assert_eq!(aged(&segments, 5_000 + 31_536_000_000, &POLICY), AGED_AT_ONCE);
        assert_eq!(aged(&segments, 5_100, &POLICY), 0, "and nothing once the clock is correct again");
    }

    #[test]
    fn the_newest_stays_even_if_it_alone_is_too_much() {
        let segments = extents(&[(40, 0), (400, 0)]);
        assert_eq!((oversized(&segments, 10, &POLICY), aged(&segments, 5_100, &POLICY)), (1, 1));
        assert_eq!((oversized(&[], 1_000, &POLICY), aged(&[], 0, &POLICY)), (0, 0));
    }
}
