//! Infers victims of out-of-memory kills from consecutive samples, if the kernel log cannot be read, as in a container.

use std::collections::BTreeMap;

use crate::{Identity, Process, Sample};

/// Maximum number of candidates, largest first.
const MAX_CANDIDATES: usize = 8;
/// SIGKILL, which the OOM killer sends.
const KILL: u32 = 9;

/// A kill that is known only from counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferredKill<'a> {
    /// Number of kills.
    pub kills: u64,
    /// Processes that ended in the meantime and may have been killed, with their earlier values; the largest and most
    /// likely first.
    pub candidates: Vec<&'a Process>,
    /// The biggest memory user before the kill, whether it survived or not.
    pub biggest: Option<&'a Process>,
}

/// How long a victim may take to exit after it was counted, ns: freeing much memory on a starved host takes time.
pub const SETTLE_NS: u64 = 3_000_000_000;

/// Number of kills between two consecutive samples: `None` if the counters show no kill, or are missing.
pub fn counted(previous: &Sample, sample: &Sample) -> Option<u64> {
    if previous.boot_id != sample.boot_id {
        return None;
    }
    sample.own_kills()?.checked_sub(previous.own_kills()?).filter(|kills| *kills > 0)
}

/// Infers the kills that were [`counted`] between `previous` and the first of `after`. Uses the samples of `after`
/// within [`SETTLE_NS`] of its first.
pub fn inferred<'a, 'b>(
    previous: &'a Sample,
    after: impl IntoIterator<Item = &'b Sample>,
) -> Option<InferredKill<'a>> {
    let mut after = after.into_iter();
    let first = after.next()?;
    let kills = counted(previous, first)?;
    let settled_ns = first.boottime_ns.saturating_add(SETTLE_NS);
    let (mut last, mut statuses) = (first, statuses(first));
    for sample in after.take_while(|next| next.boot_id == first.boot_id && next.boottime_ns <= settled_ns) {
        statuses.append(&mut self::statuses(sample));
        last = sample;
    }
    let may_be_killed = |process: &&Process| {
        let status = statuses.get(&process.identity);
        !is_dead(process)
            && !lives(last, process.identity)
            && status.is_none_or(|status| status & 0x7f == KILL)
    };
    let mut candidates: Vec<_> = previous.processes.iter().filter(may_be_killed).collect();
    candidates.sort_by_key(|process| std::cmp::Reverse(process.footprint_kib()));
    candidates.truncate(MAX_CANDIDATES);
    let biggest = previous.processes.iter().max_by_key(|process| process.footprint_kib());
    Some(InferredKill { kills, candidates, biggest })
}

/// Exit statuses of processes, as far as the sample has them.
fn statuses(sample: &Sample) -> BTreeMap<Identity, u32> {
    sample.exits.iter().map(|exit| (exit.identity, exit.status)).collect()
}

/// Killed processes remain as zombies until their parents collect them.
fn lives(sample: &Sample, identity: Identity) -> bool {
    let found = sample.processes.binary_search_by_key(&identity, |process| process.identity);
    found.is_ok_and(|index| !is_dead(&sample.processes[index]))
}

fn is_dead(process: &Process) -> bool {
    matches!(process.state, b'Z' | b'X')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Exit, HostCounters, Sources};

    fn process(pid: u32, footprint_kib: u64) -> Process {
        let identity = Identity { pid, started_ns: 0 };
        Process { state: b'S', anon_kib: Some(footprint_kib), ..Process::bare(identity) }
    }

    fn sample(kills: Option<u64>, processes: Vec<Process>) -> Sample {
        let host = HostCounters { cgroup_oom_kills: kills, ..HostCounters::default() };
        Sample { host, processes, ..Sample::default() }
    }

    fn pids(kill: &InferredKill<'_>) -> Vec<u32> {
        kill.candidates.iter().map(|process| process.identity.pid).collect()
    }

    #[test]
    fn the_largest_that_vanished_comes_first_and_the_biggest_may_live_on() {
        let before = sample(
            Some(4),
            vec![process(1, 10), process(2, 500), process(3, 90), process(4, 7), process(5, 80)],
        );
        let zombie = Process { state: b'Z', ..process(3, 0) };
        let mut now = sample(Some(5), vec![process(1, 10), process(2, 600), zombie]);
        let kill = inferred(&before, [&now]).unwrap();
        assert_eq!((kill.kills, pids(&kill)), (1, vec![3, 5, 4]));
        assert_eq!(kill.biggest.map(|process| process.identity.pid), Some(2));

        // One candidate is known to have exited normally.
        let exit = Exit {
            identity: Identity { pid: 5, started_ns: 0 },
            parent: 1,
            uid: 0,
            comm: "cron".into(),
            at_ns: 0,
            lived_us: 0,
            user_us: 0,
            system_us: 0,
            peak_kib: 0,
            status: 0,
            major_faults: 0,
            read_bytes: 0,
            written_bytes: 0,
        };
        now.exits.push(exit);
        assert_eq!(pids(&inferred(&before, [&now]).unwrap()), [3, 4]);
    }

    #[test]
    fn a_victim_may_end_some_samples_after_it_was_counted() {
        let all = vec![process(1, 10), process(2, 500), process(3, 90)];
        let at = |seconds: u64, kills, processes| Sample {
            boottime_ns: seconds * 1_000_000_000,
            ..sample(Some(kills), processes)
        };
        let before = at(1, 4, all.clone());
        let counted = at(2, 5, all.clone());
        let later = [counted, at(3, 5, all[..2].to_vec()), at(4, 5, all[..1].to_vec()), at(9, 5, Vec::new())];
        for (seen, expected) in [(1, &[][..]), (2, &[3]), (3, &[2, 3]), (4, &[2, 3])] {
            assert_eq!(pids(&inferred(&before, &later[..seen]).unwrap()), expected, "{seen} samples");
        }
    }

    #[test]
    fn without_a_counter_increase_there_was_no_kill() {
        let before = sample(Some(4), vec![process(1, 10), process(2, 500)]);
        for kills in [Some(4), Some(0), None] {
            assert_eq!(inferred(&before, [&sample(kills, vec![process(1, 10)])]), None);
        }
        let machine = |kills| Sample {
            sources: Sources::PART_OF_MACHINE,
            host: HostCounters { oom_kills: Some(kills), ..HostCounters::default() },
            ..sample(None, vec![process(1, 10), process(2, 500)])
        };
        assert_eq!(inferred(&machine(0), [&machine(6)]), None, "kills elsewhere on the machine");
        let mut later = sample(Some(9), Vec::new());
        later.boot_id.0[0] = 1;
        assert_eq!(inferred(&before, [&later]), None, "another boot");
    }
}
