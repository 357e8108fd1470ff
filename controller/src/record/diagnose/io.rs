//! Why a disk was busy: who transfers more than before, or whether the disk itself is slower.

use std::sync::Arc;

use record::{Disk, Sample};

use super::{
    actors::actor,
    cpu::Change,
    episodes::Episode,
    memory::Answer,
    scene::Scene,
    thresholds as limit,
    verdict::{Cause, Confidence, Why},
};

/// Finds who made the disks busy.
pub(super) fn judge(episode: &Episode, scene: &Scene<'_>) -> Answer {
    let (before, during) = (scene.before(episode), scene.during(episode));
    if during.seconds <= 0.0 {
        return (Cause::Unknown(Why::NoSamples), Confidence::Low, Vec::new());
    }
    let innocents = Change { before: &before, during: &during }.innocents();
    let all: f64 = during.processes.values().map(|used| used.bytes()).sum::<f64>() / during.seconds;
    let grown = |identity| during.bytes_of(identity) - before.bytes_of(identity);
    let most = during.processes.keys().copied().max_by(|a, b| grown(*a).total_cmp(&grown(*b)));
    let slow = slow_device(
        episode,
        scene,
        all,
        before.processes.values().map(|used| used.bytes()).sum::<f64>() / before.seconds.max(0.001),
    );
    if let Some(cause) = slow {
        return (cause, Confidence::Medium, innocents);
    }
    let Some(process) = most.and_then(|identity| during.known.get(&identity)) else {
        return (Cause::Unknown(Why::NothingChanged), Confidence::Low, innocents);
    };
    let bytes = during.bytes_of(process.identity);
    let share = bytes / all.max(1.0);
    if share < limit::IO_SHARE || grown(process.identity) <= bytes * limit::STEADY {
        let why = if before.seconds <= 0.0 { Why::NoBefore } else { Why::NothingChanged };
        return (Cause::Unknown(why), Confidence::Low, innocents);
    }
    let used = during.processes[&process.identity];
    let cause = Cause::Transfer {
        actor: actor(process),
        bytes: (used.read / during.seconds, used.written / during.seconds),
        before: before.bytes_of(process.identity),
        share,
    };
    let confidence = if share > 0.75 && before.seconds > 0.0 { Confidence::High } else { Confidence::Medium };
    (cause, confidence, innocents)
}

/// A disk whose requests take much longer, although no more bytes are transferred.
fn slow_device(episode: &Episode, scene: &Scene<'_>, bytes: f64, before: f64) -> Option<Cause> {
    if bytes > before * (1.0 + limit::STEADY) + 1e6 {
        return None;
    }
    let start = scene.samples.iter().find(|sample| sample.boottime_ns >= episode.from_ns)?;
    let end = scene.between(episode.from_ns, episode.until_ns.saturating_add(1)).last()?;
    let first = scene.samples.first()?;
    let disks = end.disks.iter().filter_map(|disk| {
        let now = request_ms(start, end, &disk.name)?;
        let then = request_ms(first, start, &disk.name)?;
        (now > limit::SLOW_MS && now > limit::SLOWER * then).then_some((now, then, &disk.name))
    });
    let (now, then, name) = disks.max_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(Cause::SlowDevice { disk: Arc::clone(name), request_ms: (then, now) })
}

/// Mean time of a request between two samples, ms.
fn request_ms(from: &Sample, until: &Sample, name: &str) -> Option<f64> {
    let find = |sample: &'_ Sample| sample.disks.iter().find(|disk| *disk.name == *name).cloned();
    let (from, until): (Disk, Disk) = (find(from)?, find(until)?);
    let requests = (until.reads + until.writes).checked_sub(from.reads + from.writes)?;
    let queued_ms = until.queued_ms.checked_sub(from.queued_ms)?;
    (requests > 0).then(|| queued_ms as f64 / requests as f64)
}
