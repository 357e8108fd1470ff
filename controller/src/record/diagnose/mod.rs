//! What went wrong on a host, and who caused it. Pure: samples in, verdicts out.
//!
//! Two passes over a record, because a day has forty million readings of processes and an incident a few thousand:
//! 1. [`Survey`] takes every sample. It finds `episodes` (times in which something ran out) in the host's own counters
//!    (`beats`), and slow `trends` in a sample every few seconds.
//! 2. For each episode, [`Survey::judge`] compares the samples around it (`scene`) with those before: `memory`, `cpu`,
//!    `io` and `limits` each know how one resource runs out. All put processes together by name and unit (`actors`).
//!
//! No culprit is better than a wrong one, so [`verdict::Cause::Unknown`] is an answer. All `thresholds` are in one table.

mod actors;
mod beats;
mod cpu;
mod episodes;
mod io;
mod limits;
mod memory;
mod scene;
#[cfg(test)]
mod tests;
mod thresholds;
mod trends;
pub(crate) mod verdict;

use record::{BootId, Sample, Sources};

use self::{
    beats::{Beat, Beats},
    episodes::Episode,
    scene::{AFTER_S, DENSE_S, SPARSE_EVERY_S, SPARSE_S, Scene, WITHIN_S},
    trends::Trends,
    verdict::{Cause, Confidence, Resource, Stall, Unknown, Verdict, Who},
};
use super::{query::Query, source::KnownRun, time::timestamp};

/// Maximum number of episodes that are judged: the worst.
const MOST: usize = 8;
/// A run may have caused what begins within this time after its end, ms.
const AFTERMATH_MS: i64 = 120_000;
/// An episode that the newest sample belongs to still goes on, if it is at least this long, s: a kill is over at once.
const LASTING_S: f64 = 2.0;
/// Number of points of a trend in a window.
const POINTS: u64 = 720;
/// Minimum distance of two points, ns.
const LEAST_STEP_NS: u64 = 5_000_000_000;

/// The first pass.
#[derive(Debug)]
pub(crate) struct Survey {
    query: Query,
    beats: Beats,
    trends: Trends,
    boots: Vec<Boot>,
    sources: Sources,
    is_part: bool,
    has_groups: bool,
    has_pressure: bool,
    first_ms: Option<i64>,
    last_ms: i64,
}

/// The beats of one boot.
#[derive(Debug)]
struct Boot {
    id: BootId,
    beats: Vec<Beat>,
}

/// An episode, to read the samples around it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    boot_id: BootId,
    episode: Episode,
    symptoms: Vec<Resource>,
}

impl Found {
    /// The time of the samples that [`Survey::judge`] needs, ms since the Unix epoch.
    pub(crate) fn window_ms(&self) -> (i64, i64) {
        let Episode { from_ms, until_ms, .. } = self.episode;
        let until_ms = until_ms.min(from_ms.saturating_add(WITHIN_S as i64 * 1_000));
        (from_ms.saturating_sub(SPARSE_S as i64 * 1_000), until_ms.saturating_add(AFTER_S as i64 * 1_000))
    }

    /// Whether a sample is needed, given the one that was kept before it.
    pub(crate) fn wants(&self, sample: &Sample, last: Option<&Sample>) -> bool {
        let is_dense = sample.boottime_ns.saturating_add(DENSE_S * 1_000_000_000) >= self.episode.from_ns;
        let far = |last: &Sample| {
            sample.boottime_ns.saturating_sub(last.boottime_ns) >= SPARSE_EVERY_S * 1_000_000_000
        };
        sample.boot_id == self.boot_id && (is_dense || last.is_none_or(far))
    }
}

impl Survey {
    /// Uses only the window of the query. `length_ms` is the length of the window or of the record in it.
    pub(crate) fn new(query: Query, length_ms: i64) -> Self {
        let step_ns = u64::try_from(length_ms).unwrap_or(0) * 1_000_000 / POINTS;
        Self {
            query,
            beats: Beats::default(),
            trends: Trends::new(step_ns.max(LEAST_STEP_NS)),
            boots: Vec::new(),
            sources: Sources::default(),
            is_part: false,
            has_groups: false,
            has_pressure: false,
            first_ms: None,
            last_ms: 0,
        }
    }

    /// Takes the next sample.
    pub(crate) fn push(&mut self, sample: &Sample) {
        if !self.query.spans(timestamp(sample.wall_ms)) {
            return;
        }
        self.first_ms = self.first_ms.or(Some(sample.wall_ms));
        self.last_ms = sample.wall_ms;
        self.sources = sample.sources;
        self.is_part = sample.is_part_of_machine();
        self.has_groups |= !sample.groups.is_empty();
        let host = &sample.host;
        let own =
            if self.is_part { host.cgroup_pressure_memory_full_us } else { host.pressure_memory_full_us };
        self.has_pressure |= own.is_some();
        self.trends.push(sample);
        if let Some(beat) = self.beats.push(sample) {
            match self.boots.last_mut().filter(|boot| boot.id == sample.boot_id) {
                Some(boot) => boot.beats.push(beat),
                None => self.boots.push(Boot { id: sample.boot_id, beats: vec![beat] }),
            }
        }
    }

    /// Wall times of the first and the last sample in the window, ms since the Unix epoch.
    pub(crate) fn range_ms(&self) -> Option<(i64, i64)> {
        Some((self.first_ms?, self.last_ms))
    }

    /// The episodes to judge, the worst first. What only follows from a lack of memory is no episode of its own.
    pub(crate) fn found(&self) -> Vec<Found> {
        let mut all = Vec::new();
        for boot in &self.boots {
            let episodes = episodes::find(&boot.beats);
            let of_memory: Vec<_> =
                episodes.iter().filter(|episode| episode.resource == Resource::Memory).cloned().collect();
            for episode in &episodes {
                let follows = |resource| matches!(resource, Resource::Cpu | Resource::Io | Resource::Steal);
                if follows(episode.resource) && of_memory.iter().any(|memory| meet(memory, episode)) {
                    continue;
                }
                let symptoms = episodes.iter().filter(|other| {
                    episode.resource == Resource::Memory && follows(other.resource) && meet(episode, other)
                });
                let mut symptoms: Vec<_> = symptoms.map(|other| other.resource).collect();
                symptoms.dedup();
                all.push(Found { boot_id: boot.id, episode: episode.clone(), symptoms });
            }
        }
        all.sort_by(|a, b| weight(&b.episode).total_cmp(&weight(&a.episode)));
        all.truncate(MOST);
        all
    }

    /// Judges one episode with the samples around it, in order of time.
    pub(crate) fn judge(&self, found: &Found, samples: &[Sample], runs: &[KnownRun]) -> Option<Verdict> {
        let boot = self.boots.iter().find(|boot| boot.id == found.boot_id)?;
        let episode = &found.episode;
        let scene = Scene::of(episode, samples, &boot.beats);
        let (cause, confidence, innocents) = match episode.resource {
            Resource::Memory => memory::judge(episode, &scene),
            Resource::Cpu => cpu::judge(episode, &scene),
            Resource::Io => io::judge(episode, &scene),
            Resource::Disk => limits::disk(episode, &scene),
            Resource::Tasks | Resource::Files => limits::tasks(episode, &scene),
            Resource::Steal => (stolen(episode, &scene), Confidence::High, Vec::new()),
            Resource::Nothing => return None,
        };
        // As busy as before is no incident.
        if episode.resource == Resource::Cpu && matches!(cause, Cause::Unknown(_)) {
            return None;
        }
        let last_ns = boot.beats.last().map_or(0, |beat| beat.at_ns);
        let victims = scene.kills.iter().flat_map(|(_, kill)| &kill.victims).map(|victim| {
            let known = samples.iter().rev().flat_map(|sample| &sample.processes);
            let mut known = known.filter(|process| process.identity.pid == victim.pid);
            let who = known.next().map(actors::who);
            (who.unwrap_or_else(|| Who { comm: victim.comm.as_str().into(), unit: None }), Some(victim.pid))
        });
        Some(Verdict {
            resource: episode.resource,
            scope: episode.scope.clone(),
            from_ms: episode.from_ms,
            until_ms: episode.until_ms,
            goes_on: episode.until_ns >= last_ns
                && episode.seconds >= LASTING_S
                && boot.id == self.last_boot(),
            stall: scene.stall(episode),
            victims: victims.collect(),
            innocents,
            symptoms: found.symptoms.clone(),
            run: run_before(runs, episode.from_ms),
            unknown: self.unknown(episode, &scene),
            cause,
            confidence,
        })
    }

    /// Slow changes, unless a verdict already names the same processes.
    pub(crate) fn trends(&self, verdicts: &[Verdict], runs: &[KnownRun]) -> Vec<Verdict> {
        let named: Vec<_> = verdicts.iter().filter_map(|verdict| trends::group_of(&verdict.cause)).collect();
        let found = self.trends.found().into_iter();
        let new =
            found.filter(|trend| trends::group_of(&trend.cause).is_none_or(|who| !named.contains(&who)));
        new.map(|trend| Verdict {
            resource: Resource::Nothing,
            scope: None,
            from_ms: trend.from_ms,
            until_ms: trend.until_ms,
            goes_on: trend.goes_on,
            cause: trend.cause,
            confidence: Confidence::Medium,
            stall: Stall::default(),
            victims: Vec::new(),
            innocents: Vec::new(),
            symptoms: Vec::new(),
            run: run_before(runs, trend.from_ms),
            unknown: Vec::new(),
        })
        .collect()
    }

    fn last_boot(&self) -> BootId {
        self.boots.last().map_or_else(BootId::default, |boot| boot.id)
    }

    /// What this host or its record cannot tell.
    pub(crate) fn cannot_tell(&self) -> Vec<Unknown> {
        let lacks = [
            (!self.sources.has(Sources::EXITS), Unknown::Exits),
            (!self.sources.has(Sources::KERNEL_LOG), Unknown::KernelLog),
            (self.is_part, Unknown::PartOfMachine),
            (!self.has_pressure, Unknown::Pressure),
            (!self.has_groups, Unknown::Groups),
        ];
        lacks.into_iter().filter(|(lacks, _)| *lacks).map(|(_, unknown)| unknown).collect()
    }

    fn unknown(&self, episode: &Episode, scene: &Scene<'_>) -> Vec<Unknown> {
        let mut unknown = self.cannot_tell();
        let gap_s = scene.beats_of(episode).map(|beat| beat.seconds).fold(0.0, f64::max);
        if gap_s >= 3.0 {
            unknown.push(Unknown::Gap(gap_s as u64));
        }
        unknown
    }
}

/// Whether two episodes overlap or nearly do.
fn meet(a: &Episode, b: &Episode) -> bool {
    let near = (thresholds::TOGETHER_SECONDS * 1e9) as u64;
    a.from_ns <= b.until_ns.saturating_add(near) && b.from_ns <= a.until_ns.saturating_add(near)
}

/// How bad an episode is.
fn weight(episode: &Episode) -> f64 {
    let kind = match episode.resource {
        Resource::Memory if episode.kills > 0 => 10_000.0,
        Resource::Memory | Resource::Disk | Resource::Tasks | Resource::Files => 5_000.0,
        _ => 0.0,
    };
    kind + episode.seconds
}

fn stolen(episode: &Episode, scene: &Scene<'_>) -> Cause {
    let (mut stolen, mut seconds) = (0.0, 0.0);
    for beat in scene.beats_of(episode) {
        (stolen, seconds) = (stolen + beat.steal.unwrap_or(0.0) * beat.seconds, seconds + beat.seconds);
    }
    Cause::Stolen { share: stolen / f64::max(seconds, 0.001) }
}

/// The run in progress at a time, or the last one that ended shortly before.
fn run_before(runs: &[KnownRun], at_ms: i64) -> Option<KnownRun> {
    let near = runs.iter().filter(|run| {
        let until_ms = if run.finished_unix_ms > 0 { run.finished_unix_ms } else { i64::MAX };
        run.started_unix_ms <= at_ms && until_ms.saturating_add(AFTERMATH_MS) >= at_ms && run.what != "plan"
    });
    near.max_by_key(|run| run.started_unix_ms).cloned()
}
