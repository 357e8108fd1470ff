//! Why memory ran out: what grew from the least that was held before to the first kill or the peak.

use std::sync::Arc;

use record::{Identity, Process, Sample, oom::OomKill};

use super::{
    actors::{Level, Levels, actor, levels, who},
    episodes::Episode,
    scene::Scene,
    thresholds as limit,
    trends::group_of,
    verdict::{Alibi, Cause, Confidence, Innocent, Who, Why},
};
use crate::record::names::unit;

/// How long before the first threshold the rise may have begun, s: tried in turn, because a leak takes hours and a
/// pool seconds.
const LOOKS_BACK_S: [u64; 4] = [AT_LAST_S, 60, 600, 7_200];
/// Who grew at the very last is meant before who grew in the minute before: a shell may hold much and be calm.
const AT_LAST_S: u64 = 4;
/// How long the told rise is at least, s.
const STORY_S: u64 = 60;

/// The answer: the cause, how sure it is, and who is innocent.
pub(super) type Answer = (Cause, Confidence, Vec<Innocent>);

/// A rise of memory between two samples.
struct Rise<'a> {
    base: &'a Sample,
    peak: &'a Sample,
    before: Levels,
    after: &'a Levels,
    limit_kib: u64,
}

/// Finds who filled the memory in an episode. A unit's episode concerns only its own processes.
pub(super) fn judge(episode: &Episode, scene: &Scene<'_>) -> Answer {
    let kill = scene.first_kill();
    let scope = episode.scope.as_deref();
    let Some(peak) = peak(episode, scene, kill.map(|(at_ns, _)| *at_ns)) else {
        return (Cause::Unknown(Why::NoSamples), Confidence::Low, Vec::new());
    };
    let limit_kib = limit_kib(episode, peak, kill.map(|(_, kill)| kill));
    let admits = |process: &Process| scope.is_none_or(|scope| is_below(process, scope));
    let table = kill.and_then(|(_, kill)| in_table(kill, peak, scope));
    let after = table.unwrap_or_else(|| levels(peak, admits));
    let rise = |seconds| {
        let base = base(episode, scene, peak, seconds)?;
        Some(Rise { base, peak, before: levels(base, admits), after: &after, limit_kib })
    };
    let mut tried = None;
    for seconds in LOOKS_BACK_S {
        let Some(answer) = rise(seconds).map(|rise| rise.answer(episode, scene)) else { continue };
        if !matches!(answer.0, Cause::Unknown(_) | Cause::Thrash { .. }) {
            let longer = (seconds < STORY_S).then(|| rise(STORY_S)?.retold(&answer.0, episode)).flatten();
            return (longer.unwrap_or(answer.0), answer.1, answer.2);
        }
        tried = tried.or(Some(answer));
    }
    tried.unwrap_or((Cause::Unknown(Why::NoBefore), Confidence::Low, Vec::new()))
}

/// Whether a process is in a control group or below it. The kernel's paths begin above a container's own root.
pub(super) fn is_below(process: &Process, scope: &str) -> bool {
    let Some(cgroup) = process.cgroup.as_deref() else { return false };
    let prefixes = |path: &str, of: &str| {
        of.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    prefixes(scope, cgroup) || (unit(scope).is_some() && unit(scope) == unit(cgroup))
}

/// The last sample before the first kill, or the one with most memory in use.
fn peak<'a>(episode: &Episode, scene: &Scene<'a>, killed_ns: Option<u64>) -> Option<&'a Sample> {
    if let Some(at_ns) = killed_ns {
        return scene.samples.iter().copied().rfind(|sample| sample.boottime_ns < at_ns);
    }
    let within = scene.between(episode.from_ns, episode.until_ns.saturating_add(1));
    within.max_by_key(|sample| held(sample, episode.scope.as_deref()))
}

/// The sample with the least memory in use in the time before the episode.
fn base<'a>(episode: &Episode, scene: &Scene<'a>, peak: &Sample, seconds: u64) -> Option<&'a Sample> {
    let from_ns = episode.from_ns.saturating_sub(seconds * 1_000_000_000);
    let before = scene.between(from_ns, peak.boottime_ns);
    before.min_by_key(|sample| held(sample, episode.scope.as_deref()))
}

/// Memory in use, KiB, with swap.
fn held(sample: &Sample, scope: Option<&str>) -> u64 {
    if let Some(scope) = scope {
        let held = sample.group(scope).and_then(|group| group.counters.memory_kib);
        return held.unwrap_or_else(|| {
            let below = sample.processes.iter().filter(|process| is_below(process, scope));
            below.map(Process::footprint_kib).fold(0, u64::saturating_add)
        });
    }
    let swap = sample.host.swap_total_kib.zip(sample.host.swap_free_kib);
    let swap =
        swap.filter(|_| !sample.is_part_of_machine()).map_or(0, |(total, free)| total.saturating_sub(free));
    sample.own_memory().map_or(0, |memory| memory.used_kib).saturating_add(swap)
}

fn limit_kib(episode: &Episode, peak: &Sample, kill: Option<&OomKill>) -> u64 {
    let of_group = |path: &Arc<str>| peak.group(path)?.counters.limit_kib;
    let told = kill.filter(|kill| kill.oom_memcg.is_some()).and_then(|kill| kill.limit_kib);
    let own = episode.scope.as_ref().and_then(|path| of_group(path).or(told));
    own.or_else(|| peak.own_memory().map(|memory| memory.limit_kib)).unwrap_or(0)
}

/// Levels from the kernel's own table at the kill, which knows what grew since the last sample.
fn in_table(kill: &OomKill, last: &Sample, scope: Option<&str>) -> Option<Levels> {
    if kill.table.is_empty() || kill.left_out > 0 || (kill.oom_memcg.is_some() != scope.is_some()) {
        return None;
    }
    let mut all = Levels::new();
    for row in &kill.table {
        let known = last.processes.iter().rfind(|process| process.identity.pid == row.tgid);
        // A process that no sample saw is most likely in the unit of others with its name.
        let alike = || last.processes.iter().find(|process| *process.comm == *row.comm);
        let of = known.or_else(alike).map(who);
        let of = of.unwrap_or_else(|| Who { comm: row.comm.as_str().into(), unit: None });
        let identity =
            known.map_or(Identity { pid: row.tgid, started_ns: last.boottime_ns }, |known| known.identity);
        all.entry(of).or_default().each.push((row.footprint_kib(), identity));
    }
    Some(all)
}

impl Rise<'_> {
    fn answer(&self, episode: &Episode, scene: &Scene<'_>) -> Answer {
        let needed = (self.limit_kib as f64 * limit::GROWTH) as i64;
        let mut grown: Vec<(i64, &Who)> =
            self.after.iter().map(|(who, level)| (self.growth(who, level), who)).collect();
        grown.sort_by_key(|(growth, _)| std::cmp::Reverse(*growth));
        let largest = grown.first().copied();
        let shared = self.shared(episode);
        if let Some((cause, growth)) = shared
            && growth > needed
            && largest.is_none_or(|(most, _)| growth > most)
        {
            return (cause, self.confidence(growth), self.innocents(None, scene));
        }
        if let Some((comm, pid, peak_kib)) = self.spike(episode, scene)
            && peak_kib as i64 > needed
            && largest.is_none_or(|(most, _)| most < peak_kib as i64 / 2)
        {
            let spike = Cause::Spike { comm, pid, peak_kib };
            return (spike, Confidence::Medium, self.innocents(None, scene));
        }
        if let Some((growth, who)) = largest.filter(|(growth, _)| *growth > needed) {
            return (self.cause(who), self.confidence(growth), self.innocents(Some(who), scene));
        }
        let innocents = self.innocents(None, scene);
        match scene.thrash(episode) {
            Some(cause) => (cause, Confidence::Medium, innocents),
            None => (Cause::Unknown(Why::NothingChanged), Confidence::Low, innocents),
        }
    }

    /// The same cause, with the figures of this rise.
    fn retold(&self, cause: &Cause, episode: &Episode) -> Option<Cause> {
        match cause {
            Cause::Shared { .. } => self.shared(episode).map(|(cause, _)| cause),
            _ => group_of(cause).filter(|who| self.after.contains_key(who)).map(|who| self.cause(&who)),
        }
    }

    fn growth(&self, who: &Who, level: &Level) -> i64 {
        let before = self.before.get(who).map_or(0, Level::total);
        i64::try_from(level.total()).unwrap_or(i64::MAX).saturating_sub_unsigned(before)
    }

    /// A pool of many, or the growth of one.
    fn cause(&self, who: &Who) -> Cause {
        let nothing = Level::default();
        let (before, after) = (self.before.get(who).unwrap_or(&nothing), &self.after[who]);
        let (largest_kib, largest) = after.largest().unwrap_or_default();
        let mean = after.total() as f64 / after.count().max(1) as f64;
        let held_kib = (before.total(), after.total());
        if after.count() >= limit::POOL && (largest_kib as f64) < limit::POOL_EVEN * mean {
            let each_kib = after.median(None).unwrap_or(0);
            return Cause::Pool {
                who: who.clone(),
                count: (before.count(), after.count()),
                held_kib,
                each_kib,
                // As many as there were did not fit.
                fits: self.fits(after.total(), each_kib).map(|fits| fits.min(after.count() - 1)),
            };
        }
        let known = |sample: &Sample| {
            let found = sample.processes.iter().rfind(|process| process.identity == largest)?;
            Some((actor(found), found.footprint_kib()))
        };
        let then = known(self.base).map_or(0, |(_, kib)| kib);
        let actor = known(self.peak).map(|(actor, _)| actor).unwrap_or_else(|| super::verdict::Actor {
            pid: largest.pid,
            who: who.clone(),
            command: None,
        });
        let siblings = after.median(Some(largest)).map(|kib| (after.count() - 1, kib));
        let since_ns = self.base.boottime_ns.max(largest.started_ns);
        let over_s = self.peak.boottime_ns.saturating_sub(since_ns) as f64 / 1e9;
        Cause::Growth { actor, held_kib: (then, largest_kib), over_s, siblings }
    }

    /// How many processes of this size fit beside all others.
    fn fits(&self, pool_kib: u64, each_kib: u64) -> Option<u64> {
        let held: u64 = self.after.values().map(Level::total).sum();
        let host = &self.peak.host;
        let (shared, kernel) = if self.peak.is_part_of_machine() {
            (host.cgroup_shmem_kib, host.cgroup_kernel_kib.unwrap_or(0))
        } else {
            let kernel = host.slab_unreclaimable_kib.unwrap_or(0) + host.kernel_other_kib.unwrap_or(0);
            (host.shmem_kib, kernel)
        };
        let others = held.saturating_sub(pool_kib).saturating_add(shared.unwrap_or(0)).saturating_add(kernel);
        self.limit_kib.checked_sub(others)?.checked_div(each_kib.max(1))
    }

    /// Growth of shared memory and files in memory, KiB.
    fn shared(&self, episode: &Episode) -> Option<(Cause, i64)> {
        let of_group = |sample: &Sample, path: &str| sample.group(path)?.counters.shmem_kib;
        let of = |sample: &Sample| match &episode.scope {
            Some(path) => of_group(sample, path),
            None if sample.is_part_of_machine() => sample.host.cgroup_shmem_kib,
            None => sample.host.shmem_kib,
        };
        let held_kib = (of(self.base)?, of(self.peak)?);
        let growth = |(before, after): (u64, u64)| after as i64 - before as i64;
        let leaves = self.peak.groups.iter().filter(|group| unit(&group.path).is_some());
        let writer = leaves
            .filter_map(|group| {
                let before = of_group(self.base, &group.path).unwrap_or(0);
                Some((growth((before, group.counters.shmem_kib?)), unit(&group.path)?))
            })
            .filter(|(kib, _)| *kib > growth(held_kib) / 2)
            .max();
        let mounts = self.peak.filesystems.iter().filter(|fs| fs.in_memory);
        let mount = mounts
            .map(|fs| {
                let used =
                    |fs: &record::Filesystem| fs.total_bytes.saturating_sub(fs.free_bytes) as i64 / 1024;
                let before =
                    self.base.filesystems.iter().find(|before| before.mount == fs.mount).map_or(0, used);
                (used(fs) - before, &fs.mount)
            })
            .filter(|(kib, _)| *kib > growth(held_kib) / 2)
            .max();
        let cause = Cause::Shared {
            unit: writer.map(|(_, unit)| unit.into()),
            mount: mount.map(|(_, mount)| Arc::clone(mount)),
            held_kib,
        };
        Some((cause, growth(held_kib)))
    }

    /// The largest process that ended within the episode and that no sample saw at its size.
    fn spike(&self, episode: &Episode, scene: &Scene<'_>) -> Option<(Arc<str>, u32, u64)> {
        let until_ns = episode.until_ns.saturating_add(2_000_000_000);
        let from_ns = episode.from_ns.saturating_sub(10_000_000_000);
        let exits = scene.between(from_ns, until_ns).flat_map(|sample| &sample.exits);
        let unseen = exits.filter(|exit| {
            let seen = scene.samples.iter().flat_map(|sample| &sample.processes);
            let mut seen = seen.filter(|process| process.identity == exit.identity);
            !seen.any(|process| process.footprint_kib() > exit.peak_kib / 2)
        });
        let largest = unseen.max_by_key(|exit| exit.peak_kib)?;
        Some((Arc::clone(&largest.comm), largest.identity.pid, largest.peak_kib))
    }

    /// High if the cause explains most of what was missing.
    fn confidence(&self, growth: i64) -> Confidence {
        let all = held(self.peak, None) as i64 - held(self.base, None) as i64;
        let of_groups: i64 = self.after.iter().map(|(who, level)| self.growth(who, level).max(0)).sum();
        Confidence::of_share(growth as f64 / all.max(of_groups).max(1) as f64)
    }

    /// Who was killed, who asked, and who is biggest, unless they are of the culprit's group.
    fn innocents(&self, culprit: Option<&Who>, scene: &Scene<'_>) -> Vec<Innocent> {
        let mut innocents: Vec<Innocent> = Vec::new();
        let mut add = |who: Who, pid: Option<u32>, alibi| {
            if Some(&who) != culprit && !innocents.iter().any(|known| known.who == who) {
                innocents.push(Innocent { who, pid, alibi });
            }
        };
        for (_, kill) in &scene.kills {
            for victim in &kill.victims {
                let known = self.peak.processes.iter().rfind(|process| process.identity.pid == victim.pid);
                if let Some(known) = known {
                    add(who(known), Some(victim.pid), Alibi::Killed(self.constant(known)));
                }
            }
            let trigger = kill.trigger.as_ref().and_then(|trigger| {
                let pid = trigger.pid?;
                self.peak.processes.iter().rfind(|process| process.identity.pid == pid)
            });
            trigger
                .into_iter()
                .for_each(|process| add(who(process), Some(process.identity.pid), Alibi::Asked));
        }
        let biggest = self.after.iter().max_by_key(|(_, level)| level.total());
        if let Some((who, level)) = biggest
            && self.growth(who, level) <= (level.total() as f64 * limit::GROWTH) as i64
            && level.total() as f64 > self.limit_kib as f64 * limit::GROWTH
        {
            let pid = level.largest().filter(|_| level.count() == 1).map(|(_, identity)| identity.pid);
            add(who.clone(), pid, Alibi::Constant(level.total()));
        }
        innocents
    }

    /// Memory of a process that did not grow, KiB.
    fn constant(&self, process: &Process) -> Option<u64> {
        let before =
            self.base.processes.iter().find(|before| before.identity == process.identity)?.footprint_kib();
        let now = process.footprint_kib();
        (now as f64 <= before as f64 * (1.0 + limit::GROWTH) + 1024.0).then_some(now)
    }
}
