//! Limits that were reached: space of a file system, tasks, files.

use std::collections::BTreeMap;

use super::{
    actors::{Usage, who},
    episodes::Episode,
    memory::{Answer, is_below},
    scene::Scene,
    verdict::{Cause, Confidence, Resource, Who, Why},
};
use crate::record::names::unit;

/// Finds who filled a file system.
pub(super) fn disk(episode: &Episode, scene: &Scene<'_>) -> Answer {
    let Some(mount) = &episode.scope else {
        return (Cause::Unknown(Why::NoSamples), Confidence::Low, Vec::new());
    };
    let free = |sample: &record::Sample| {
        let filesystem = sample.filesystems.iter().find(|filesystem| filesystem.mount == *mount)?;
        Some(filesystem.free_bytes)
    };
    let until_ns = episode.from_ns.saturating_add(2_000_000_000);
    let before: Vec<_> = scene.between(0, until_ns).collect();
    let start = before.iter().filter_map(|sample| Some((free(sample)?, sample.boottime_ns))).max();
    let least = scene.between(episode.from_ns, episode.until_ns.saturating_add(1)).filter_map(free).min();
    let (Some((most, from_ns)), Some(least)) = (start, least) else {
        return (Cause::Unknown(Why::NoSamples), Confidence::Low, Vec::new());
    };
    let usage = Usage::of(before.into_iter().filter(|sample| sample.boottime_ns >= from_ns));
    let gone = most.saturating_sub(least) as f64;
    let in_memory = scene.samples.iter().flat_map(|sample| &sample.filesystems);
    let in_memory =
        in_memory.filter(|filesystem| filesystem.mount == *mount).any(|filesystem| filesystem.in_memory);
    let writer = if in_memory {
        unit_in_memory(scene, from_ns, gone)
    } else {
        let writer = usage.groups.iter().max_by(|a, b| a.1.written.total_cmp(&b.1.written));
        let writer = writer.filter(|(_, used)| used.written > gone / 2.0);
        writer.map(|(who, used)| (who.clone(), used.written as u64))
    };
    let confidence = if writer.is_some() { Confidence::High } else { Confidence::Low };
    (Cause::Full { mount: mount.clone(), free_bytes: (most, least), writer }, confidence, Vec::new())
}

/// The unit whose files in memory grew by at least half of `gone` bytes, and by how many. Processes do not count what they
/// write to memory.
fn unit_in_memory(scene: &Scene<'_>, from_ns: u64, gone: f64) -> Option<(Who, u64)> {
    let first = scene.samples.iter().find(|sample| sample.boottime_ns >= from_ns)?;
    let held = |sample: &record::Sample, path: &str| sample.group(path)?.counters.shmem_kib;
    let last = scene.samples.last()?;
    let grown = last.groups.iter().filter_map(|group| {
        let unit = unit(&group.path)?;
        let kib = group.counters.shmem_kib?.saturating_sub(held(first, &group.path).unwrap_or(0));
        Some((kib * 1024, unit))
    });
    let (bytes, unit) = grown.max().filter(|(bytes, _)| *bytes as f64 > gone / 2.0)?;
    let comm = unit.strip_suffix(".service").unwrap_or(unit).into();
    Some((Who { comm, unit: Some(unit.into()) }, bytes))
}

/// Finds who has most of what was limited.
pub(super) fn tasks(episode: &Episode, scene: &Scene<'_>) -> Answer {
    let within = scene.between(episode.from_ns, episode.until_ns.saturating_add(1));
    let Some(sample) = within.max_by_key(|sample| sample.processes.len()) else {
        return (Cause::Unknown(Why::NoSamples), Confidence::Low, Vec::new());
    };
    let scope = episode.scope.as_deref();
    let mut counts: BTreeMap<Who, u64> = BTreeMap::new();
    for process in
        sample.processes.iter().filter(|process| scope.is_none_or(|scope| is_below(process, scope)))
    {
        *counts.entry(who(process)).or_default() += u64::from(process.threads.max(1));
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    let group = scope.and_then(|scope| sample.group(scope));
    let beat = scene.beats.iter().rfind(|beat| beat.at_ns <= episode.until_ns);
    let of_host =
        beat.and_then(|beat| if episode.resource == Resource::Files { beat.files } else { beat.tasks });
    let used = match group {
        Some(group) => group.counters.tasks.zip(group.counters.tasks_limit),
        None => of_host,
    };
    let refused = scope.map(|scope| {
        let units = scene.beats_of(episode).flat_map(|beat| &beat.units);
        units.filter(|unit| *unit.path == *scope).map(|unit| unit.refused).sum()
    });
    let who = most.filter(|_| episode.resource == Resource::Tasks);
    // Who has most of the tasks of its own unit is meant; of a whole host that takes a good part of them.
    let confidence = match (&who, used) {
        (Some(_), _) if scope.is_some() => Confidence::High,
        (Some((_, count)), Some((used, _))) if *count * 2 > used => Confidence::High,
        _ => Confidence::Medium,
    };
    (Cause::Limit { used: used.unwrap_or_default(), refused, who }, confidence, Vec::new())
}
