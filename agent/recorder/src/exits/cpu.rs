//! CPU time of an ended task: the scheduler's exact sum, and the clock ticks that show how it was spent.

/// CPU time, µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cpu {
    /// Exact time in both modes, measured by the scheduler.
    pub(super) exact_us: u64,
    /// Time in user mode, sampled at ticks: 0 for a task that never runs at a tick.
    pub(super) user_us: u64,
    /// Time in kernel mode, sampled at ticks.
    pub(super) system_us: u64,
}

impl Cpu {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            exact_us: self.exact_us.saturating_add(other.exact_us),
            user_us: self.user_us.saturating_add(other.user_us),
            system_us: self.system_us.saturating_add(other.system_us),
        }
    }

    /// CPU time in user and in kernel mode: the exact sum in the proportion of the ticks, as in /proc/PID/stat
    /// (kernel/sched/cputime.c, cputime_adjust).
    pub(super) fn split(self) -> (u64, u64) {
        let ticks = u128::from(self.user_us) + u128::from(self.system_us);
        if self.system_us == 0 {
            return (self.exact_us, 0);
        }
        let user_us = u128::from(self.exact_us) * u128::from(self.user_us) / ticks;
        let user_us = u64::try_from(user_us).unwrap_or(self.exact_us);
        (user_us, self.exact_us - user_us)
    }

    /// For a process: combines the kernel's sum over all threads, which includes threads that ended before the
    /// recorder started, with the messages about single threads. Most kernels do not sum up ticks, so the proportion
    /// comes from the messages.
    pub(super) fn of_process(summed: Self, told: Self) -> Self {
        let exact_us = summed.exact_us.max(told.exact_us);
        let ticks = if summed.user_us.saturating_add(summed.system_us) > 0 { summed } else { told };
        Self { exact_us, ..ticks }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_process_has_the_kernels_sum_in_the_proportion_of_the_messages() {
        let cpu = |exact_us, user_us, system_us| Cpu { exact_us, user_us, system_us };
        assert_eq!(Cpu::of_process(cpu(200, 0, 0), cpu(80, 90, 30)).split(), (150, 50));
        assert_eq!(Cpu::of_process(cpu(200, 4, 12), cpu(80, 90, 30)).split(), (50, 150));
        assert_eq!(Cpu::of_process(cpu(0, 0, 0), cpu(80, 0, 0)).split(), (80, 0));
    }

    proptest! {
        #[test]
        fn a_split_adds_up(exact_us: u64, user_us: u64, system_us: u64) {
            let (user, system) = Cpu { exact_us, user_us, system_us }.split();
            prop_assert_eq!(user.checked_add(system), Some(exact_us));
        }
    }
}
