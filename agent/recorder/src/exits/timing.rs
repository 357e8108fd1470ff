//! Computes start and end of an ended process on the boot clock. The kernel reports only the lifetime, on the monotonic
//! clock, which stops in suspend.

/// The kernel's unit of start times, in ns (USER_HZ is 100).
const TICK_NS: u64 = 10_000_000;

/// The period in which an exit was reported.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Time of the previous drain, ns since boot.
    pub since_ns: u64,
    /// Current time, ns since boot.
    pub now_ns: u64,
    /// Total time in suspend since boot: boot clock minus monotonic clock.
    pub suspended_ns: u64,
}

impl Window {
    /// Start and end of a process with lifetime `lived_us`, given the start times of known processes with its pid. If
    /// none fits, the pid was reused, and the process is assumed to have ended just now.
    pub(super) fn place(&self, lived_us: u64, known: impl IntoIterator<Item = u64>) -> (u64, u64) {
        let lived_ns = lived_us.saturating_mul(1000);
        let latest = self.now_ns.saturating_sub(lived_ns);
        let earliest = self.since_ns.saturating_sub(lived_ns.saturating_add(self.suspended_ns));
        let fits = |started: &u64| *started + TICK_NS > earliest && *started <= latest;
        match known.into_iter().find(fits) {
            Some(started) => {
                (started, (started + lived_ns).clamp(self.since_ns.min(self.now_ns), self.now_ns))
            }
            None => (latest - latest % TICK_NS, self.now_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_known_process_keeps_its_start() {
        let window = Window { since_ns: 100 * SECOND, now_ns: 101 * SECOND, suspended_ns: 0 };
        assert_eq!(window.place(40_500_000, Some(60 * SECOND)), (60 * SECOND, 100 * SECOND + SECOND / 2));
        // An hour of suspend during its life: it ended some time in the window.
        let slept = Window { suspended_ns: 3600 * SECOND, ..window };
        assert_eq!(slept.place(3_000_000, Some(50 * SECOND)), (50 * SECOND, 100 * SECOND));
    }

    #[test]
    fn a_later_process_with_the_same_pid_is_another() {
        let window = Window { since_ns: 100 * SECOND, now_ns: 101 * SECOND, suspended_ns: 0 };
        assert_eq!(window.place(205_000, Some(60 * SECOND)), (100 * SECOND + 790_000_000, 101 * SECOND));
        assert_eq!(window.place(u64::MAX, None), (0, 101 * SECOND));
        // The first of two that fit.
        let known = [60 * SECOND, 100 * SECOND + 800_000_000];
        assert_eq!(window.place(200_000, known), (100 * SECOND + 800_000_000, 101 * SECOND));
    }
}
