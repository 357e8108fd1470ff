//! The two clocks of a sample, and when the next one is due.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// Since the Unix epoch; may step.
    pub(super) wall: Duration,
    /// `CLOCK_BOOTTIME`: never steps, runs on in suspend, and has the origin of process start times.
    pub(super) boottime: Duration,
}

impl Moment {
    /// This moment.
    pub(super) fn now() -> nix::Result<Self> {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self { wall, boottime: clock_gettime(ClockId::CLOCK_BOOTTIME)?.into() })
    }
}

/// Time from `wall` to the next whole multiple of `interval`.
///
/// Samples of all hosts so fall on the same seconds, errors do not add up, and a clock that is set costs one
/// irregular interval. A multiple that is nearly there already is skipped: it is the one that a slightly early
/// wake-up has just served.
pub(super) fn until_next(wall: Duration, interval: Duration) -> Duration {
    let interval_ns = interval.as_nanos().max(1);
    let left = interval_ns - wall.as_nanos() % interval_ns;
    let wait = if left < interval_ns / 16 { left + interval_ns } else { left };
    Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_fall_on_whole_intervals() {
        let wait = |wall_ms, interval_ms| {
            until_next(Duration::from_millis(wall_ms), Duration::from_millis(interval_ms)).as_millis()
        };
        assert_eq!(wait(10_000, 1_000), 1_000);
        assert_eq!(wait(10_003, 1_000), 997);
        assert_eq!(wait(10_800, 1_000), 200);
        assert_eq!(wait(9_999, 1_000), 1_001, "woken a millisecond early");
        assert_eq!(wait(12_000, 5_000), 3_000);
    }
}
