//! Slow changes that have not run anything out yet: a process that leaks, and one that has left its usual CPU use. Looks at
//! one sample in a while.

use std::collections::HashMap;

use record::{BootId, Identity, Sample};

use super::{
    actors::{Level, Levels, actor, is_kernel, levels},
    thresholds as limit,
    verdict::{Actor, Cause, Who},
};

/// Minimum number of points, and time that they cover, for a leak.
const LEAK_POINTS: usize = 12;
const LEAK_SECONDS: f64 = 600.0;
/// Share of steps that do not shrink.
const LEAK_STEADY: f64 = 0.8;
/// Share of the growth that falls into the last third of the time: a warm-up ends, a leak does not.
const LEAK_LASTS: f64 = 0.2;
/// Number of earlier points that show a process's usual CPU use.
const USUAL_POINTS: usize = 6;

/// A slow change.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trend {
    /// What changed.
    pub(super) cause: Cause,
    /// Begin and end, ms since the Unix epoch.
    pub(super) from_ms: i64,
    pub(super) until_ms: i64,
    /// It was still so at the end.
    pub(super) goes_on: bool,
}

/// Points of one boot, at least some seconds apart.
#[derive(Debug, Default)]
pub(super) struct Trends {
    boot_id: BootId,
    every_ns: u64,
    points: Vec<Point>,
    limit_kib: u64,
    processes: HashMap<Identity, Track>,
}

#[derive(Debug)]
struct Point {
    at_ns: u64,
    wall_ms: i64,
    levels: Levels,
}

/// A process, with its CPU use at each point since it was first seen.
#[derive(Debug)]
struct Track {
    actor: Actor,
    first_point: usize,
    cpu_us: u64,
    cpus: Vec<f32>,
}

impl Trends {
    /// Points at least this far apart, ns.
    pub(super) fn new(every_ns: u64) -> Self {
        Self { every_ns, ..Self::default() }
    }

    /// Takes a sample if it is time for the next point.
    pub(super) fn push(&mut self, sample: &Sample) {
        if sample.boot_id != self.boot_id {
            *self = Self { boot_id: sample.boot_id, ..Self::new(self.every_ns) };
        }
        let last_ns = self.points.last().map(|point| point.at_ns);
        if last_ns.is_some_and(|last| sample.boottime_ns.saturating_sub(last) < self.every_ns) {
            return;
        }
        let elapsed_us = last_ns.map(|last| sample.boottime_ns.saturating_sub(last) as f64 / 1e3);
        let point = self.points.len();
        for process in sample.processes.iter().filter(|process| !is_kernel(process)) {
            let cpu_us = process.cpu_us();
            let track = self.processes.entry(process.identity).or_insert_with(|| Track {
                actor: actor(process),
                first_point: point,
                cpu_us,
                cpus: Vec::new(),
            });
            // A young process's control group and command line come later.
            if track.actor.who.unit.is_none() || track.actor.command.is_none() {
                track.actor = actor(process);
            }
            if track.first_point < point
                && let Some(elapsed_us) = elapsed_us
            {
                track.cpus.push((cpu_us.saturating_sub(track.cpu_us) as f64 / elapsed_us) as f32);
            }
            track.cpu_us = cpu_us;
        }
        let memory = sample.own_memory();
        self.limit_kib = memory.map_or(self.limit_kib, |memory| memory.limit_kib);
        self.points.push(Point {
            at_ns: sample.boottime_ns,
            wall_ms: sample.wall_ms,
            levels: levels(sample, |_| true),
        });
    }

    /// Leaks and runaways.
    pub(super) fn found(&self) -> Vec<Trend> {
        self.leak().into_iter().chain(self.runaway()).collect()
    }

    /// The group that leaks most.
    fn leak(&self) -> Option<Trend> {
        let (first, last) = (self.points.first()?, self.points.last()?);
        let seconds = last.at_ns.saturating_sub(first.at_ns) as f64 / 1e9;
        if self.points.len() < LEAK_POINTS || seconds < LEAK_SECONDS {
            return None;
        }
        let leaks = last.levels.keys().filter_map(|who| Some((self.leaked(who)?, who)));
        let (_, who) = leaks.max()?;
        let (before, after) = (first.levels.get(who), &last.levels[who]);
        let (now_kib, largest) = after.largest()?;
        let of =
            |level: &Level| level.each.iter().find(|(_, identity)| *identity == largest).map(|(kib, _)| *kib);
        let then_kib = before.and_then(of).unwrap_or(0);
        let siblings = after.median(Some(largest)).map(|kib| (after.count() - 1, kib));
        let alone = now_kib.saturating_sub(then_kib) as f64
            >= limit::ALONE * after.total().saturating_sub(before.map_or(0, Level::total)) as f64;
        let cause = if alone {
            let actor = self.processes.get(&largest)?.actor.clone();
            Cause::Growth { actor, held_kib: (then_kib, now_kib), over_s: seconds, siblings }
        } else {
            Cause::Pool {
                who: who.clone(),
                count: (before.map_or(0, Level::count), after.count()),
                held_kib: (before.map_or(0, Level::total), after.total()),
                each_kib: after.median(None)?,
                fits: None,
            }
        };
        Some(Trend { cause, from_ms: first.wall_ms, until_ms: last.wall_ms, goes_on: true })
    }

    /// Growth of a group that leaks, KiB.
    fn leaked(&self, who: &Who) -> Option<u64> {
        let sizes: Vec<u64> =
            self.points.iter().map(|point| point.levels.get(who).map_or(0, Level::total)).collect();
        // A group that began within the window has no past: its growth is its start.
        let begun = sizes.iter().position(|kib| *kib > 0)?;
        let sizes = &sizes[begun..];
        if sizes.len() < LEAK_POINTS || begun > sizes.len() / 4 {
            return None;
        }
        let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
        let growth = last.checked_sub(first)?;
        let steps = sizes.windows(2).filter(|pair| pair[1] + 64 >= pair[0]).count();
        let steady = steps as f64 / (sizes.len() - 1) as f64;
        let late = last.saturating_sub(sizes[sizes.len() * 2 / 3]);
        let lasts = late as f64 >= LEAK_LASTS * growth as f64;
        (growth as f64 > limit::GROWTH * self.limit_kib as f64 && steady >= LEAK_STEADY && lasts)
            .then_some(growth)
    }

    /// The process that most exceeds its usual CPU use.
    fn runaway(&self) -> Option<Trend> {
        let every_s = self.mean_step_s()?;
        let needed = (limit::RUNAWAY_SECONDS / every_s).ceil().max(2.0) as usize;
        let found = self.processes.iter().filter_map(|(identity, track)| {
            let (from, usual, now) = track.left_its_past(needed)?;
            Some((now, *identity, track.first_point + 1 + from, usual, track.cpus.len() - from))
        });
        let (now, identity, from, usual, length) = found.max_by(|a, b| a.0.total_cmp(&b.0))?;
        let actor = self.processes.get(&identity)?.actor.clone();
        let siblings = self.siblings(&actor.who, identity, from);
        // All siblings have more work: that is load, not a runaway.
        if siblings.is_some_and(|(_, cpus)| cpus > f64::from(now) / 3.0) {
            return None;
        }
        let until = (from + length - 1).min(self.points.len() - 1);
        let cause = Cause::Runaway { actor, cpus: (f64::from(usual), f64::from(now)), siblings };
        let (from_ms, until_ms) = (self.points.get(from - 1)?.wall_ms, self.points.get(until)?.wall_ms);
        Some(Trend { cause, from_ms, until_ms, goes_on: until + 1 == self.points.len() })
    }

    fn mean_step_s(&self) -> Option<f64> {
        let (first, last) = (self.points.first()?, self.points.last()?);
        let steps = self.points.len().checked_sub(1).filter(|steps| *steps > 0)?;
        Some(last.at_ns.saturating_sub(first.at_ns) as f64 / 1e9 / steps as f64)
    }

    /// Number of siblings, and the CPUs that one of them used since a point.
    fn siblings(&self, of: &Who, left_out: Identity, from: usize) -> Option<(u64, f64)> {
        let alike = self
            .processes
            .iter()
            .filter(|(identity, track)| **identity != left_out && track.actor.who == *of);
        let uses = alike.filter_map(|(_, track)| {
            let since = from.saturating_sub(track.first_point + 1).min(track.cpus.len());
            let cpus = &track.cpus[since..];
            (!cpus.is_empty()).then(|| f64::from(cpus.iter().sum::<f32>()) / cpus.len() as f64)
        });
        let uses: Vec<f64> = uses.collect();
        (!uses.is_empty()).then(|| (uses.len() as u64, uses.iter().sum::<f64>() / uses.len() as f64))
    }
}

impl Track {
    /// Where the process left its usual use for at least `needed` points: the index, its usual use, and the new one.
    fn left_its_past(&self, needed: usize) -> Option<(usize, f32, f32)> {
        let mut from = self.cpus.len();
        while from > 0 && f64::from(self.cpus[from - 1]) > limit::RUNAWAY {
            from -= 1;
        }
        if self.cpus.len() - from < needed || from < USUAL_POINTS {
            return None;
        }
        let usual = median(&self.cpus[..from]);
        let now = median(&self.cpus[from..]);
        (f64::from(now) > limit::RUNAWAY_TIMES * f64::from(usual)).then_some((from, usual, now))
    }
}

fn median(values: &[f32]) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// The group of a trend's cause.
pub(super) fn group_of(cause: &Cause) -> Option<Who> {
    match cause {
        Cause::Growth { actor, .. } | Cause::Runaway { actor, .. } | Cause::Transfer { actor, .. } => {
            Some(actor.who.clone())
        }
        Cause::Pool { who, .. } | Cause::Many { who, .. } => Some(who.clone()),
        Cause::Storm { parent, .. } => parent.as_ref().map(|parent| parent.who.clone()),
        _ => None,
    }
}
