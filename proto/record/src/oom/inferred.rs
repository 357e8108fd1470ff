//! Infers victims of out-of-memory kills from consecutive samples, if the kernel log cannot be read, as in a container.
//!
//! Processes end for other reasons, too. The victims are those that vanish first after the count rose, and among these
//! the largest: the kernel kills the process with the highest score.

use std::{cmp::Reverse, collections::BTreeMap, iter};

use crate::{Identity, Process, Sample};

/// Maximum number of candidates, largest first.
const MAX_CANDIDATES: usize = 8;
/// SIGKILL, which the OOM killer sends.
const KILL: u32 = 9;
/// A process that holds less than this part of what it held has lost its memory. If more candidates remain than were
/// killed, those that held less than this part of what the largest one held are dropped.
const PART: u64 = 4;
/// A process that holds less than this part of what another one holds is no likely victim. Less than [`PART`], because
/// memory grows faster than samples are taken: a victim may have been small in the sample before.
const TRIFLE: u64 = 16;

/// A kill that is known only from counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferredKill<'a> {
    /// Number of kills.
    pub kills: u64,
    /// Processes that ended in the meantime and may have been killed, with their earlier values; the largest and most
    /// likely first.
    pub candidates: Vec<&'a Process>,
    /// Number of victims that no likely candidate stands for: probably processes that started and were killed between
    /// two samples.
    pub unseen: u64,
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
    let soon = after.take_while(|next| next.boot_id == first.boot_id && next.boottime_ns <= settled_ns);
    let after: Vec<&Sample> = iter::once(first).chain(soon).collect();
    let mut gone = vanished(previous, &after);
    keep_first(&mut gone, kills);
    let mut candidates = largest(gone, kills);
    let biggest = previous.processes.iter().max_by_key(|process| process.footprint_kib());
    let biggest_kib = biggest.map_or(0, Process::footprint_kib);
    let likely = candidates.iter().filter(|process| holds_part(process, biggest_kib, TRIFLE)).count() as u64;
    candidates.truncate(MAX_CANDIDATES);
    Some(InferredKill { kills, candidates, unseen: kills.saturating_sub(likely), biggest })
}

/// A process that vanished after kills were counted.
struct Gone<'a> {
    process: &'a Process,
    /// Index of the first sample without the process or its memory.
    since: usize,
}

/// The processes that vanished and may have been killed. Those that vanished only when a further kill had been counted
/// belong to that one.
fn vanished<'a>(previous: &'a Sample, after: &[&Sample]) -> Vec<Gone<'a>> {
    let exits = after.iter().flat_map(|sample| &sample.exits);
    let statuses: BTreeMap<_, _> = exits.map(|exit| (exit.identity, exit.status)).collect();
    let may_be_killed = |process: &&Process| {
        let status = statuses.get(&process.identity);
        !is_dead(process) && has_memory(process) && status.is_none_or(|status| status & 0x7f == KILL)
    };
    let counted = after.first().and_then(|first| first.own_kills());
    let further = after.iter().position(|sample| sample.own_kills() > counted).unwrap_or(after.len());
    let processes = previous.processes.iter().filter(may_be_killed);
    let gone = processes.filter_map(|process| Some(Gone { process, since: gone_since(process, after)? }));
    gone.filter(|gone| gone.since < further).collect()
}

/// Index of the first sample since which the process is gone, or has lost its memory because it is dying. `None` if it
/// lives on in the last sample.
fn gone_since(process: &Process, after: &[&Sample]) -> Option<usize> {
    let is_gone = after.last().is_some_and(|last| living(last, process.identity).is_none());
    let holds = |sample: &&Sample| {
        living(sample, process.identity).is_some_and(|now| holds_part(now, process.footprint_kib(), PART))
    };
    is_gone.then(|| after.iter().rposition(holds).map_or(0, |last| last + 1))
}

/// Keeps those that vanished first, up to the sample in which as many likely victims as were killed have vanished.
fn keep_first(gone: &mut Vec<Gone<'_>>, kills: u64) {
    gone.sort_by_key(|gone| gone.since);
    let largest_kib = gone.iter().map(|gone| gone.process.footprint_kib()).max().unwrap_or(0);
    let mut likely = gone.iter().filter(|gone| holds_part(gone.process, largest_kib, TRIFLE));
    let last_victim = likely.nth(usize::try_from(kills.saturating_sub(1)).unwrap_or(usize::MAX));
    if let Some(since) = last_victim.map(|gone| gone.since) {
        gone.retain(|gone| gone.since <= since);
    }
}

/// The candidates, largest first; more than were killed only if they are similar in size.
fn largest(gone: Vec<Gone<'_>>, kills: u64) -> Vec<&Process> {
    let mut candidates: Vec<_> = gone.into_iter().map(|gone| gone.process).collect();
    candidates.sort_by_key(|process| Reverse(process.footprint_kib()));
    let largest_kib = candidates.first().map_or(0, |process| process.footprint_kib());
    let similar = candidates.iter().filter(|process| holds_part(process, largest_kib, PART)).count();
    candidates.truncate(usize::try_from(kills).unwrap_or(usize::MAX).max(similar));
    candidates
}

/// Whether a process holds at least one `part`-th of this much memory.
fn holds_part(process: &Process, kib: u64, part: u64) -> bool {
    process.footprint_kib().saturating_mul(part) >= kib
}

/// Whether a process has memory of its own. Kernel threads have none; a process that is dying has lost it.
fn has_memory(process: &Process) -> bool {
    process.footprint_kib() > 0 || process.resident_kib > 0
}

/// The process in this sample, unless it is dead: killed processes remain as zombies until their parents collect them.
fn living(sample: &Sample, identity: Identity) -> Option<&Process> {
    let found = sample.processes.binary_search_by_key(&identity, |process| process.identity).ok()?;
    Some(&sample.processes[found]).filter(|process| !is_dead(process))
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
        assert_eq!((kill.kills, pids(&kill), kill.unseen), (1, vec![3, 5], 0), "4 is too small");
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
        assert_eq!(pids(&inferred(&before, [&now]).unwrap()), [3]);
    }

    fn at(seconds: u64, kills: u64, processes: &[Process]) -> Sample {
        Sample { boottime_ns: seconds * 1_000_000_000, ..sample(Some(kills), processes.to_vec()) }
    }

    #[test]
    fn a_victim_may_end_some_samples_after_it_was_counted_and_the_first_to_end_is_meant() {
        let all = [process(1, 10), process(2, 500), process(3, 90)];
        let before = at(1, 4, &all);
        let later = [at(2, 5, &all), at(3, 5, &all[..2]), at(4, 5, &all[..1]), at(9, 5, &[])];
        for (seen, expected) in [(1, &[][..]), (2, &[3]), (3, &[3]), (4, &[3])] {
            assert_eq!(pids(&inferred(&before, &later[..seen]).unwrap()), expected, "{seen} samples");
        }
    }

    /// The victims of each kill in consecutive samples, with the number of unseen ones.
    fn victims(samples: &[Sample]) -> Vec<(Vec<u32>, u64)> {
        let of = |index: usize| inferred(&samples[index - 1], &samples[index..]);
        let kills = (1..samples.len()).filter_map(of);
        kills.map(|kill| (pids(&kill), kill.unseen)).collect()
    }

    #[test]
    fn of_several_kills_each_has_its_own_victim() {
        let [hog, second, third] = [8_357, 8_366, 8_369].map(|pid| process(pid, 90 << 10));
        let [agent, sleep] = [process(600, 1_200), process(8_371, 100)];
        let living = |hogs: &[&Process]| {
            let hogs = hogs.iter().map(|hog| (*hog).clone());
            [agent.clone()].into_iter().chain(hogs).collect::<Vec<_>>()
        };
        let all = [living(&[&hog, &second, &third]), vec![sleep]].concat();
        let samples = [
            at(10, 0, &all),
            at(11, 1, &living(&[&hog, &second])),
            at(12, 2, &living(&[&hog])),
            at(13, 3, &living(&[])),
            at(14, 3, &[]),
        ];
        assert_eq!(victims(&samples), [(vec![8_369], 0), (vec![8_366], 0), (vec![8_357], 0)]);
    }

    #[test]
    fn a_victim_that_is_still_dying_at_the_next_kill_belongs_to_the_first() {
        let [hog, second] = [process(7, 90 << 10), process(8, 80 << 10)];
        let dying = Process { state: b'D', ..process(7, 0) };
        let both = [hog.clone(), second.clone()];
        let first = at(11, 1, &[dying, second.clone()]);
        assert_eq!(victims(&[at(10, 0, &both), first, at(12, 2, &[])]), [(vec![7], 0), (vec![8], 0)]);
        // With its memory it is alive: the first victim started and was killed between two samples.
        let samples = [at(10, 0, &both), at(11, 1, &both), at(12, 2, &[second]), at(13, 2, &[])];
        assert_eq!(victims(&samples), [(vec![], 1), (vec![7], 0)]);
    }

    #[test]
    fn small_processes_that_end_by_themselves_do_not_hide_the_victim() {
        let all = [process(1, 1_200), process(7, 90 << 10), process(8, 80 << 10), process(9, 100)];
        // The victim is in the first sample with its memory, when the small one has ended already.
        let samples = [at(10, 0, &all), at(11, 1, &all[..3]), at(12, 1, &all[..2])];
        assert_eq!(victims(&samples), [(vec![8], 0)]);
        let samples = [at(10, 0, &all), at(11, 2, &[])];
        assert_eq!(victims(&samples), [(vec![7, 8], 0)], "as many as were killed");
        let samples = [at(10, 0, &all), at(11, 1, &[])];
        assert_eq!(victims(&samples), [(vec![7, 8], 0)], "similar in size");
    }

    #[test]
    fn a_victim_may_have_been_in_no_sample() {
        let all = [process(1, 1_200), process(7, 90 << 10), process(9, 100)];
        assert_eq!(victims(&[at(10, 0, &all), at(11, 1, &all)]), [(vec![], 1)]);
        assert_eq!(victims(&[at(10, 0, &all), at(11, 1, &all[..2])]), [(vec![9], 1)], "too small to be it");
        assert_eq!(victims(&[at(10, 0, &all), at(11, 2, &all[..1])]), [(vec![7, 9], 1)], "one of two");
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
