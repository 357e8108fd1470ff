//! Divides exact CPU time into user and system time, like the kernel.

/// Counters of a process: `runtime_ns` is exact, the other two are sampled at each clock tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) runtime_ns: u64,
    pub(super) user_ns: u64,
    pub(super) system_ns: u64,
}

/// User and system time that add up to the runtime, in ns, like `cputime_adjust` in kernel/sched/cputime.c does for
/// /proc: in the proportion of the sampled values, and neither less than in `shown`.
pub(super) fn adjust(counters: Counters, shown: (u64, u64)) -> (u64, u64) {
    let Counters { runtime_ns, user_ns, system_ns } = counters;
    if shown.0.saturating_add(shown.1) >= runtime_ns {
        return shown;
    }
    let system = match (user_ns, system_ns) {
        (_, 0) => 0,
        (0, _) => runtime_ns,
        _ => {
            let share = u128::from(system_ns) * u128::from(runtime_ns)
                / (u128::from(user_ns) + u128::from(system_ns));
            u64::try_from(share).unwrap_or(runtime_ns)
        }
    };
    let system = system.max(shown.1);
    let user = (runtime_ns.saturating_sub(system)).max(shown.0);
    (user, runtime_ns - user)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn exact_time_is_divided_as_the_ticks_fell() {
        let counters = Counters { runtime_ns: 1_000, user_ns: 30, system_ns: 10 };
        assert_eq!(adjust(counters, (0, 0)), (750, 250));
        assert_eq!(adjust(Counters { system_ns: 0, ..counters }, (0, 0)), (1_000, 0));
        assert_eq!(adjust(Counters { user_ns: 0, ..counters }, (0, 0)), (0, 1_000));
        assert_eq!(adjust(counters, (400, 500)), (500, 500), "system time does not shrink");
        assert_eq!(adjust(counters, (900, 50)), (900, 100), "nor does user time");
        assert_eq!(adjust(counters, (900, 500)), (900, 500), "a runtime that shrank is not believed");
    }

    proptest! {
        #[test]
        fn both_grow_and_their_sum_is_exact(counters: [(u64, u64, u64); 8]) {
            let mut shown = (0, 0);
            for (runtime_ns, user_ns, system_ns) in counters {
                let runtime_ns = runtime_ns >> 1;
                let next = adjust(Counters { runtime_ns, user_ns, system_ns }, shown);
                prop_assert!(next.0 >= shown.0 && next.1 >= shown.1);
                prop_assert_eq!(next.0 + next.1, runtime_ns.max(shown.0 + shown.1));
                shown = next;
            }
        }
    }
}
