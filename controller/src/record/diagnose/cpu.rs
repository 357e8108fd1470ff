//! Why CPU time ran out: what uses more than before. How busy a host is tells nothing, only the change does.

use super::{
    actors::{Usage, actor},
    episodes::Episode,
    memory::{Answer, is_below},
    scene::Scene,
    thresholds as limit,
    verdict::{Alibi, Cause, Confidence, Innocent, Who, Why},
};

/// Shortest time before an episode that can be compared with it, s.
const SHORTEST_S: f64 = 4.0;

/// Finds who took the CPU time.
pub(super) fn judge(episode: &Episode, scene: &Scene<'_>) -> Answer {
    let (before, during) = (scene.before(episode), scene.during(episode));
    if during.seconds <= 0.0 {
        return (Cause::Unknown(Why::NoSamples), Confidence::Low, Vec::new());
    }
    if let Some(scope) = &episode.scope {
        return throttled(scope, episode, scene, &during);
    }
    if before.seconds < SHORTEST_S {
        return (Cause::Unknown(Why::NoBefore), Confidence::Low, Vec::new());
    }
    let cpus = scene.samples.last().and_then(|sample| sample.host.cpus).unwrap_or(1).max(1) as f64;
    let change = Change { before: &before, during: &during };
    let innocents = change.innocents();
    if let Some((cause, share)) = change.storm() {
        return (cause, if share > 0.6 { Confidence::High } else { Confidence::Medium }, innocents);
    }
    let Some((who, grown)) = change.largest().filter(|(_, grown)| *grown > limit::CPU_CHANGE * cpus.min(2.0))
    else {
        return (Cause::Unknown(Why::NothingChanged), Confidence::Low, innocents);
    };
    let all: f64 = change.grown().into_iter().map(|(_, grown)| grown.max(0.0)).sum();
    let confidence = Confidence::of_share(grown / all.max(0.001));
    let innocents = innocents.into_iter().filter(|innocent| innocent.who != who).collect();
    (change.cause(&who, grown), confidence, innocents)
}

/// A unit reached its CPU limit: that is its own limit's doing, whoever uses most in it.
fn throttled(scope: &std::sync::Arc<str>, episode: &Episode, scene: &Scene<'_>, during: &Usage) -> Answer {
    let group = scene.samples.iter().rev().find_map(|sample| sample.group(scope));
    let cpus =
        group.and_then(|group| group.counters.cpu_limit_permille).map(|permille| permille as f64 / 1e3);
    let seconds = episode.until_ns.saturating_sub(episode.from_ns) as f64 / 1e9;
    let units = scene.beats_of(episode).flat_map(|beat| &beat.units).filter(|unit| unit.path == *scope);
    let stopped: f64 = units.map(|unit| unit.throttled * unit.seconds).sum();
    let inside = during.known.values().filter(|process| is_below(process, scope));
    let most = inside.max_by(|a, b| during.cpus_of(a.identity).total_cmp(&during.cpus_of(b.identity)));
    let share = (stopped / seconds.max(0.001)).min(1.0);
    (Cause::Throttled { cpus, share, who: most.map(super::actors::who) }, Confidence::High, Vec::new())
}

/// What changed from one time to another.
pub(super) struct Change<'a> {
    pub(super) before: &'a Usage,
    pub(super) during: &'a Usage,
}

impl Change<'_> {
    /// Growth of every group, in CPUs. Kernel threads work for others.
    fn grown(&self) -> Vec<(Who, f64)> {
        let groups = self.during.groups.keys().filter(|who| !self.during.is_kernel(who));
        groups.map(|who| (who.clone(), self.during.cpus(who) - self.before.cpus(who))).collect()
    }

    fn largest(&self) -> Option<(Who, f64)> {
        self.grown().into_iter().max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// One process or many.
    fn cause(&self, who: &Who, grown: f64) -> Cause {
        let of = |process: &record::Process| {
            self.during.cpus_of(process.identity) - self.before.cpus_of(process.identity)
        };
        let members: Vec<_> = self.during.members(who).collect();
        let most = members.iter().max_by(|a, b| of(a).total_cmp(&of(b)));
        if let Some(most) = most.filter(|most| of(most) >= limit::ALONE * grown) {
            let cpus = (self.before.cpus_of(most.identity), self.during.cpus_of(most.identity));
            let others = members.len() as u64 - 1;
            let rest = (self.during.cpus(who) - cpus.1).max(0.0) / others.max(1) as f64;
            return Cause::Runaway {
                actor: actor(most),
                cpus,
                siblings: (others > 0).then_some((others, rest)),
            };
        }
        let count = |usage: &Usage| usage.groups.get(who).map_or(0, |used| used.count);
        Cause::Many {
            who: who.clone(),
            count: (count(self.before), count(self.during)),
            cpus: (self.before.cpus(who), self.during.cpus(who)),
        }
    }

    /// A process whose short-lived children take much of the change, and their share of it.
    fn storm(&self) -> Option<(Cause, f64)> {
        let seconds = self.during.seconds.max(0.001);
        let (pid, ended) = self.during.ended.iter().max_by(|a, b| a.1.cpu.total_cmp(&b.1.cpu))?;
        let earlier =
            self.before.ended.get(pid).map_or(0.0, |ended| ended.cpu / self.before.seconds.max(0.001));
        let (cpus, rate) = (ended.cpu / seconds, ended.count as f64 / seconds);
        let grown: f64 = self.grown().into_iter().map(|(_, grown)| grown.max(0.0)).sum();
        // Sampled children are counted in their group as well.
        let share = (cpus - earlier) / grown.max(cpus - earlier).max(0.001);
        if rate < limit::STORM_RATE || share < limit::STORM || cpus - earlier < limit::CPU_CHANGE {
            return None;
        }
        let parent = self.during.by_pid(*pid).or_else(|| self.before.by_pid(*pid)).map(actor);
        Some((Cause::Storm { parent, comm: ended.comm()?, rate, cpus }, share))
    }

    /// Who is busy, but was so before, and the kernel's threads.
    pub(super) fn innocents(&self) -> Vec<Innocent> {
        let mut busiest: Vec<_> = self.during.groups.keys().map(|who| (self.during.cpus(who), who)).collect();
        busiest.sort_by(|a, b| b.0.total_cmp(&a.0));
        let busy = busiest.into_iter().take(4).filter(|(cpus, _)| *cpus > limit::CPU_CHANGE);
        busy.filter_map(|(cpus, who)| {
            let earlier = self.before.cpus(who);
            let alibi = if self.during.is_kernel(who) {
                Alibi::Kernel(cpus)
            } else if (cpus - earlier).abs() <= limit::STEADY * earlier {
                Alibi::Steady(cpus)
            } else {
                return None;
            };
            Some(Innocent { who: who.clone(), pid: None, alibi })
        })
        .collect()
    }
}
