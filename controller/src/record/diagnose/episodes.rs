//! Finds when something ran out: times above a threshold for long enough.

use std::sync::Arc;

use super::{
    beats::{Beat, UnitBeat},
    thresholds as limit,
    verdict::Resource,
};

/// A time in which something ran out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Episode {
    /// What ran out.
    pub(super) resource: Resource,
    /// The control group whose own limit it was, or the file system.
    pub(super) scope: Option<Arc<str>>,
    /// Begin and end, ns since boot.
    pub(super) from_ns: u64,
    pub(super) until_ns: u64,
    /// The same, ms since the Unix epoch.
    pub(super) from_ms: i64,
    pub(super) until_ms: i64,
    /// Time above the threshold, s.
    pub(super) seconds: f64,
    /// Kills within it.
    pub(super) kills: u64,
}

/// What kind of threshold a beat is above.
#[derive(Clone, Debug, PartialEq)]
struct Above {
    resource: Resource,
    scope: Option<Arc<str>>,
    /// Counts at once, however short.
    at_once: bool,
    kills: u64,
    seconds: f64,
}

/// Finds the episodes in beats of one boot.
pub(super) fn find(beats: &[Beat]) -> Vec<Episode> {
    let mut open: Vec<(Episode, bool)> = Vec::new();
    let mut closed = Vec::new();
    let mut room = Room::default();
    for beat in beats {
        closed.extend(open.extract_if(.., |(episode, _)| is_over(episode, beat)));
        for above in above(beat, &mut room) {
            let same = open
                .iter_mut()
                .find(|(episode, _)| episode.resource == above.resource && episode.scope == above.scope);
            match same {
                Some((episode, at_once)) if is_near(episode, &above, beat) => {
                    episode.until_ns = beat.at_ns;
                    episode.until_ms = beat.wall_ms;
                    episode.seconds += above.seconds;
                    episode.kills += above.kills;
                    *at_once |= above.at_once;
                }
                Some(slot) => closed.push(std::mem::replace(slot, begin(&above, beat))),
                None => open.push(begin(&above, beat)),
            }
        }
    }
    closed.extend(open);
    closed.retain(|(episode, at_once)| {
        *at_once || episode.seconds >= least_seconds(episode.resource, episode.scope.is_some())
    });
    let mut episodes: Vec<_> = closed.into_iter().map(|(episode, _)| episode).collect();
    let in_units: Vec<_> = episodes.iter().filter(|episode| episode.scope.is_some()).cloned().collect();
    episodes.retain(|episode| !in_units.iter().any(|unit| is_same_kill(episode, unit)));
    episodes.sort_by_key(|episode| episode.from_ns);
    episodes
}

/// The counters of units are read at least this often, ns: a kill at a unit's limit is counted on the host before.
const UNITS_LATE_NS: u64 = 7_000_000_000;

/// Whether the kills of a host's episode are those at a unit's own limit, and it is an episode for nothing else.
fn is_same_kill(host: &Episode, unit: &Episode) -> bool {
    let alike =
        host.resource == Resource::Memory && unit.resource == Resource::Memory && host.scope.is_none();
    let near = unit.until_ns.saturating_add(UNITS_LATE_NS) >= host.from_ns
        && host.until_ns.saturating_add(UNITS_LATE_NS) >= unit.from_ns;
    alike && near && (1..=unit.kills).contains(&host.kills) && host.seconds < limit::MEMORY_SECONDS
}

fn begin(above: &Above, beat: &Beat) -> (Episode, bool) {
    // A little more, so that the sample at the begin belongs to it.
    let length_ns = (above.seconds * 1e9) as u64 + 1_000_000;
    let episode = Episode {
        resource: above.resource,
        scope: above.scope.clone(),
        from_ns: beat.at_ns.saturating_sub(length_ns),
        until_ns: beat.at_ns,
        from_ms: beat.wall_ms.saturating_sub((length_ns / 1_000_000) as i64),
        until_ms: beat.wall_ms,
        seconds: above.seconds,
        kills: above.kills,
    };
    (episode, above.at_once)
}

/// Whether memory was given back since: what follows is another episode.
fn is_over(episode: &Episode, beat: &Beat) -> bool {
    let is_free = beat.memory.is_some_and(|memory| memory.used_kib < memory.limit_kib / 2);
    episode.resource == Resource::Memory
        && episode.scope.is_none()
        && beat.at_ns > episode.until_ns
        && is_free
}

fn is_near(episode: &Episode, above: &Above, beat: &Beat) -> bool {
    let gap_s = beat.at_ns.saturating_sub(episode.until_ns) as f64 / 1e9 - above.seconds;
    gap_s <= limit::TOGETHER_SECONDS
}

/// Minimum time above the threshold, s.
fn least_seconds(resource: Resource, in_unit: bool) -> f64 {
    match resource {
        Resource::Memory => limit::MEMORY_SECONDS,
        Resource::Cpu if in_unit => limit::THROTTLED_SECONDS,
        Resource::Cpu => limit::CPU_SECONDS,
        Resource::Steal => limit::STEAL_SECONDS,
        Resource::Io => limit::IO_SECONDS,
        Resource::Disk | Resource::Tasks | Resource::Files | Resource::Nothing => 0.0,
    }
}

/// File systems that had room.
#[derive(Debug, Default)]
struct Room(Vec<Arc<str>>);

impl Room {
    /// File systems that are full now and had room before.
    fn full<'a>(&mut self, beat: &'a Beat) -> Vec<&'a Arc<str>> {
        let mut full = Vec::new();
        for (mount, free, total) in &beat.filesystems {
            let share = *free as f64 / (*total).max(1) as f64;
            if share > limit::DISK_ROOM && !self.0.contains(mount) {
                self.0.push(Arc::clone(mount));
            }
            if share < limit::DISK_FULL && self.0.contains(mount) {
                full.push(mount);
            }
        }
        full
    }
}

fn above(beat: &Beat, room: &mut Room) -> Vec<Above> {
    let mut all = Vec::new();
    let mut add = |resource, scope: Option<&Arc<str>>, at_once, kills, seconds| {
        all.push(Above { resource, scope: scope.cloned(), at_once, kills, seconds });
    };
    let seconds = beat.seconds;
    // A kill by a unit's own limit is counted on the whole machine as well.
    let in_units: u64 = beat.units.iter().map(|unit| unit.kills).sum();
    let kills = beat.kills.saturating_sub(in_units);
    if kills > 0 || exceeds(beat.memory_full, limit::MEMORY_FULL) {
        add(Resource::Memory, None, kills > 0, kills, seconds);
    }
    if exceeds(beat.io_full, limit::IO_FULL) || exceeds(beat.io_some, limit::IO_SOME) {
        add(Resource::Io, None, false, 0, seconds);
    }
    if exceeds(beat.cpu_some, limit::CPU_SOME) && exceeds(beat.busy, limit::CPU_BUSY) {
        add(Resource::Cpu, None, false, 0, seconds);
    }
    if exceeds(beat.steal, limit::STEAL) {
        add(Resource::Steal, None, false, 0, seconds);
    }
    for (resource, used) in [(Resource::Tasks, beat.tasks), (Resource::Files, beat.files)] {
        if used.is_some_and(|(used, most)| most > 0 && used as f64 >= limit::LIMIT_REACHED * most as f64) {
            add(resource, None, true, 0, seconds);
        }
    }
    for mount in room.full(beat) {
        add(Resource::Disk, Some(mount), true, 0, seconds);
    }
    beat.units.iter().for_each(|unit| of_unit(unit, &mut add));
    all
}

fn of_unit(unit: &UnitBeat, add: &mut impl FnMut(Resource, Option<&Arc<str>>, bool, u64, f64)) {
    let seconds = unit.seconds;
    let stalls = unit.limit_events > 0 && exceeds(unit.memory_full, limit::MEMORY_FULL);
    if unit.kills > 0 || stalls {
        add(Resource::Memory, Some(&unit.path), unit.kills > 0, unit.kills, seconds);
    }
    if unit.refused > 0 {
        add(Resource::Tasks, Some(&unit.path), true, 0, seconds);
    }
    if unit.throttled > limit::THROTTLED {
        add(Resource::Cpu, Some(&unit.path), false, 0, seconds);
    }
}

fn exceeds(share: Option<f64>, limit: f64) -> bool {
    share.is_some_and(|share| share > limit)
}
