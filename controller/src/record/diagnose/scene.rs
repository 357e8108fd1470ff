//! The samples around an episode, all of one boot: dense near it, sparse before.

use std::collections::BTreeMap;

use record::{EventKind, Sample, oom::OomKill};

use super::{
    actors::{Usage, actor},
    beats::Beat,
    episodes::Episode,
    thresholds as limit,
    verdict::{Actor, Cause, Stall},
};

/// How far before an episode samples are needed, s, for slow leaks.
pub(super) const SPARSE_S: u64 = 7_200;
/// How far before an episode every sample is needed, s.
pub(super) const DENSE_S: u64 = 90;
/// Distance of samples that are kept further back, s.
pub(super) const SPARSE_EVERY_S: u64 = 20;
/// How far behind the begin of an episode samples are kept, s.
pub(super) const WITHIN_S: u64 = 120;
/// How far behind its end, s.
pub(super) const AFTER_S: u64 = 5;

/// The samples around one episode.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    /// In order of time.
    pub(super) samples: Vec<&'a Sample>,
    /// The host in the window, also outside of the samples.
    pub(super) beats: &'a [Beat],
    /// Kills in the kernel's log that belong to the episode, with their times, ns since boot.
    pub(super) kills: Vec<(u64, OomKill)>,
}

/// Length of the time before an episode that is compared with it, and the gap between them, s.
const BEFORE_S: u64 = 60;
const GAP_S: u64 = 3;
/// Length of the time within an episode that is looked at, s.
const DURING_S: u64 = 60;

impl<'a> Scene<'a> {
    /// The scene of an episode.
    pub(super) fn of(episode: &Episode, samples: &'a [Sample], beats: &'a [Beat]) -> Self {
        Self { samples: samples.iter().collect(), beats, kills: kills(episode, samples) }
    }

    /// Samples between two times, the second excluded, in ns since boot.
    pub(super) fn between(
        &self,
        from_ns: u64,
        until_ns: u64,
    ) -> impl DoubleEndedIterator<Item = &'a Sample> + '_ {
        let within = move |sample: &&&Sample| (from_ns..until_ns).contains(&sample.boottime_ns);
        self.samples.iter().filter(within).copied()
    }

    /// What was used before the episode; its time is short or zero if the record begins just before.
    pub(super) fn before(&self, episode: &Episode) -> Usage {
        let until_ns = episode.from_ns.saturating_sub(GAP_S * 1_000_000_000);
        Usage::of(self.between(until_ns.saturating_sub(BEFORE_S * 1_000_000_000), until_ns))
    }

    /// What was used in the episode, at its beginning.
    pub(super) fn during(&self, episode: &Episode) -> Usage {
        let until_ns = episode.until_ns.min(episode.from_ns.saturating_add(DURING_S * 1_000_000_000));
        Usage::of(self.between(episode.from_ns, until_ns.saturating_add(1)))
    }

    /// The first kill in the kernel's log and its time.
    pub(super) fn first_kill(&self) -> Option<&(u64, OomKill)> {
        self.kills.iter().min_by_key(|(at_ns, _)| *at_ns)
    }

    /// Whether file pages are read again and again although no process grew, and which process reads most.
    pub(super) fn thrash(&self, episode: &Episode) -> Option<Cause> {
        let beats: Vec<_> = self.beats_of(episode).collect();
        let refaults = beats.iter().map(|beat| beat.refaults).sum::<f64>() / beats.len().max(1) as f64;
        if refaults < limit::REFAULTS {
            return None;
        }
        let during = self.during(episode);
        let reader = during.processes.iter().max_by(|a, b| a.1.read.total_cmp(&b.1.read));
        let reader = reader.filter(|(_, used)| used.read > 0.0);
        let read_bytes = reader.map_or(0.0, |(_, used)| used.read) / during.seconds.max(0.001);
        let reader: Option<Actor> = reader.and_then(|(identity, _)| during.known.get(identity)).map(actor);
        Some(Cause::Thrash { reader, read_bytes, refaults })
    }

    /// The beats of the episode.
    pub(super) fn beats_of(&self, episode: &Episode) -> impl Iterator<Item = &'a Beat> + use<'a> {
        let (from_ns, until_ns) = (episode.from_ns, episode.until_ns);
        self.beats.iter().filter(move |beat| beat.at_ns >= from_ns && beat.at_ns <= until_ns)
    }

    /// What the episode did to the host.
    pub(super) fn stall(&self, episode: &Episode) -> Stall {
        let mut stall = Stall { kills: episode.kills, ..Stall::default() };
        let (mut busy, mut system, mut seconds) = (0.0, 0.0, 0.0);
        for beat in self.beats_of(episode) {
            let of = |share: Option<f64>| share.unwrap_or(0.0) * beat.seconds;
            stall.memory_full_s += of(beat.memory_full);
            stall.io_full_s += of(beat.io_full);
            stall.cpu_some_s += of(beat.cpu_some);
            if let Some(share) = beat.busy {
                (busy, system, seconds) =
                    (busy + share * beat.seconds, system + of(beat.system), seconds + beat.seconds);
            }
            let memory = beat.memory.map(|memory| (memory.used_kib, memory.limit_kib));
            stall.memory_kib = stall.memory_kib.max(memory);
            stall.swap_kib = stall.swap_kib.max(beat.swap_kib);
            stall.shmem_kib = stall.shmem_kib.max(beat.shmem_kib);
            stall.late_ms = stall.late_ms.max(beat.late_ms);
        }
        stall.busy = (seconds > 0.0).then(|| (busy / seconds, system / seconds));
        stall.waited_in = self.waited_in(episode);
        stall
    }

    /// What waiting tasks waited in: the first function that tells, and how often it was seen.
    fn waited_in(&self, episode: &Episode) -> Vec<(String, u64)> {
        let within = self.between(episode.from_ns, episode.until_ns.saturating_add(2_000_000_000));
        let stacks = within.flat_map(|sample| &sample.events).filter(|event| event.kind == EventKind::Stacks);
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for line in stacks.flat_map(|event| event.text.lines()) {
            let Some((_, functions)) = line.split_once(": ") else { continue };
            if let Some(function) = functions.split(' ').find(|function| !SCHEDULING.contains(function)) {
                *counts.entry(function).or_default() += 1;
            }
        }
        let mut counts: Vec<_> = counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts.truncate(3);
        counts
    }
}

/// Kills in the kernel's log that belong to an episode, with their times: of its own control group, or of none.
fn kills(episode: &Episode, samples: &[Sample]) -> Vec<(u64, OomKill)> {
    let (from_ns, until_ns) =
        (episode.from_ns.saturating_sub(2_000_000_000), episode.until_ns.saturating_add(2_000_000_000));
    let events = samples.iter().flat_map(|sample| &sample.events);
    let told =
        events.filter(|event| event.kind == EventKind::Kernel && (from_ns..=until_ns).contains(&event.at_ns));
    let kills = told.filter_map(|event| Some((event.at_ns, OomKill::parse(&event.text)?)));
    kills.filter(|(_, kill)| kill.oom_memcg.is_some() == episode.scope.is_some()).collect()
}

/// Functions in which every task waits, whatever it waits for.
const SCHEDULING: [&str; 8] = [
    "schedule",
    "__schedule",
    "io_schedule",
    "io_schedule_timeout",
    "schedule_timeout",
    "folio_wait_bit_common",
    "__folio_lock",
    "bit_wait_io",
];
