//! The two clocks of a sample, and the time until the next sample.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// Time since the Unix epoch; may step.
    pub(super) wall: Duration,
    /// `CLOCK_BOOTTIME`: never steps, continues in suspend, and has the origin of process start times.
    pub(super) boottime: Duration,
}

impl Moment {
    /// The current time.
    pub(super) fn now() -> nix::Result<Self> {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self { wall, boottime: clock_gettime(ClockId::CLOCK_BOOTTIME)?.into() })
    }
}

/// Time from `wall` to the next whole multiple of `interval`.
///
/// This way, samples of all hosts fall on the same seconds, errors do not add up, and a change of the clock causes
/// only one irregular interval. A multiple that is only an instant away is skipped: a slightly early wake-up has just
/// handled it.
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
