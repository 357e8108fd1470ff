//! Who was killed for want of memory where the kernel's log cannot be read, as in a container: from two samples.

use std::collections::BTreeMap;

use crate::history::{HostCounters, Identity, Process, Sample};

/// Candidates that are named, the largest first.
const MAX_CANDIDATES: usize = 8;
/// SIGKILL, by which the kernel kills.
const KILL: u32 = 9;

/// A kill that the counters tell of and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferredKill<'a> {
    /// How many were killed.
    pub kills: u64,
    /// Processes that ended meanwhile and may have been killed, as they were before; the largest first, which is the
    /// likeliest.
    pub candidates: Vec<&'a Process>,
    /// Who held most memory before, dead or alive.
    pub biggest: Option<&'a Process>,
}

/// What two samples in a row say of kills between them: `None` if the counters say that there were none, or cannot say.
pub fn inferred<'a>(previous: &'a Sample, sample: &Sample) -> Option<InferredKill<'a>> {
    if previous.boot_id != sample.boot_id {
        return None;
    }
    let kills = rise(&previous.host, &sample.host, |host| host.cgroup_oom_kills)
        .or_else(|| rise(&previous.host, &sample.host, |host| host.oom_kills))?;
    let statuses: BTreeMap<Identity, u32> =
        sample.exits.iter().map(|exit| (exit.identity, exit.status)).collect();
    let may_be_killed = |process: &&Process| {
        let status = statuses.get(&process.identity);
        !is_dead(process)
            && !lives(sample, process.identity)
            && status.is_none_or(|status| status & 0x7f == KILL)
    };
    let mut candidates: Vec<_> = previous.processes.iter().filter(may_be_killed).collect();
    candidates.sort_by_key(|process| std::cmp::Reverse(process.footprint_kib()));
    candidates.truncate(MAX_CANDIDATES);
    let biggest = previous.processes.iter().max_by_key(|process| process.footprint_kib());
    Some(InferredKill { kills, candidates, biggest })
}

/// By how much a counter rose, if it did.
fn rise(
    before: &HostCounters,
    now: &HostCounters,
    counter: impl Fn(&HostCounters) -> Option<u64>,
) -> Option<u64> {
    counter(now)?.checked_sub(counter(before)?).filter(|kills| *kills > 0)
}

/// Killed processes remain as zombies until their parents ask.
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
    use crate::history::Exit;

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
        let kill = inferred(&before, &now).unwrap();
        assert_eq!((kill.kills, pids(&kill)), (1, vec![3, 5, 4]));
        assert_eq!(kill.biggest.map(|process| process.identity.pid), Some(2));

        // One of them is known to have ended by itself.
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
        assert_eq!(pids(&inferred(&before, &now).unwrap()), [3, 4]);
    }

    #[test]
    fn without_a_counter_that_rose_there_was_no_kill() {
        let before = sample(Some(4), vec![process(1, 10), process(2, 500)]);
        for kills in [Some(4), Some(0), None] {
            assert_eq!(inferred(&before, &sample(kills, vec![process(1, 10)])), None);
        }
        let mut later = sample(Some(9), Vec::new());
        later.boot_id.0[0] = 1;
        assert_eq!(inferred(&before, &later), None, "another boot");
    }
}
