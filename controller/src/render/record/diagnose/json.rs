//! A verdict as one JSON object. Sizes in bytes, times in RFC 3339, durations in seconds; unknown values are null.

use serde_json::{Value, json};

use super::{Subject, words};
use crate::{
    record::{
        diagnose::verdict::{Actor, Alibi, Cause, Resource, Unknown, Verdict, Who, Why},
        time::timestamp,
    },
    render::text::bytes,
};

/// The object of a verdict.
pub(super) fn object(subject: &Subject, verdict: &Verdict) -> Value {
    let stall = &verdict.stall;
    let pair = |pair: Option<(u64, u64)>| {
        pair.map(|(used, all)| json!({ "used_bytes": bytes(used), "limit_bytes": bytes(all) }))
    };
    json!({
        "host": subject.name,
        "from": timestamp(verdict.from_ms), "until": timestamp(verdict.until_ms), "goes_on": verdict.goes_on,
        "resource": resource(verdict.resource), "scope": verdict.scope.as_deref(),
        "sentence": words::headline(verdict), "advice": words::advice(verdict).first(),
        "class": class(verdict), "cause": cause(&verdict.cause), "confidence": super::confidence(verdict.confidence),
        "evidence": {
            "kills": stall.kills, "memory": pair(stall.memory_kib), "swap": pair(stall.swap_kib),
            "shared_bytes": stall.shmem_kib.map(bytes), "memory_full_s": stall.memory_full_s, "io_full_s": stall.io_full_s,
            "cpu_some_s": stall.cpu_some_s, "cpu_busy_share": stall.busy.map(|(busy, _)| busy),
            "cpu_system_share": stall.busy.map(|(_, system)| system), "late_s": stall.late_ms as f64 / 1e3,
            "waited_in": stall.waited_in.iter().map(|(name, count)| json!({ "function": name, "count": count })).collect::<Vec<_>>(),
        },
        "victims": verdict.victims.iter().map(|(of, pid)| with_pid(who(of), *pid)).collect::<Vec<_>>(),
        "innocents": verdict.innocents.iter().map(|innocent| {
            let mut object = with_pid(who(&innocent.who), innocent.pid);
            object["alibi"] = alibi(innocent.alibi);
            object
        }).collect::<Vec<_>>(),
        "symptoms": verdict.symptoms.iter().map(|symptom| resource(*symptom)).collect::<Vec<_>>(),
        "run_id": verdict.run.as_ref().map(|run| &run.run_id),
        "unknown": verdict.unknown.iter().map(unknown).collect::<Vec<_>>(),
    })
}

/// The object of a record without incidents.
pub(super) fn healthy(subject: &Subject, missing: &[Unknown]) -> Value {
    json!({
        "host": subject.name, "from": timestamp(subject.range_ms.0), "until": timestamp(subject.range_ms.1),
        "unknown": missing.iter().map(unknown).collect::<Vec<_>>(),
    })
}

/// A short name for what happened: the label of all incidents of one kind.
pub(super) fn class(verdict: &Verdict) -> &'static str {
    match (&verdict.cause, verdict.resource) {
        (Cause::Pool { .. }, Resource::Memory) if verdict.scope.is_some() => "memory-unit-limit",
        (Cause::Growth { .. }, Resource::Memory) if verdict.scope.is_some() => "memory-unit-limit",
        (Cause::Pool { .. }, Resource::Nothing) | (Cause::Growth { .. }, Resource::Nothing) => "memory-leak",
        (Cause::Pool { .. }, _) => "memory-pool",
        (Cause::Growth { .. }, _) => "memory-growth",
        (Cause::Shared { .. }, _) => "memory-shared",
        (Cause::Spike { .. }, _) => "memory-spike",
        (Cause::Thrash { .. }, _) => "memory-thrash",
        (Cause::Runaway { .. }, _) => "cpu-runaway",
        (Cause::Storm { .. }, _) => "cpu-storm",
        (Cause::Many { .. }, _) => "cpu-many",
        (Cause::Throttled { .. }, _) => "cpu-unit-limit",
        (Cause::Stolen { .. }, _) => "cpu-stolen",
        (Cause::Transfer { bytes, .. }, _) if bytes.0 > bytes.1 => "io-reader",
        (Cause::Transfer { .. }, _) => "io-writer",
        (Cause::SlowDevice { .. }, _) => "io-device",
        (Cause::Full { .. }, _) => "disk-full",
        (Cause::Limit { .. }, Resource::Files) => "files-limit",
        (Cause::Limit { .. }, _) => "tasks-limit",
        (Cause::Unknown(_), _) => "not-attributed",
    }
}

fn cause(cause: &Cause) -> Value {
    let change =
        |(before, now): (u64, u64)| json!({ "before_bytes": bytes(before), "now_bytes": bytes(now) });
    match cause {
        Cause::Pool { who: of, count, held_kib, each_kib, fits } => json!({
            "processes": who(of), "count_before": count.0, "count": count.1, "held": change(*held_kib),
            "each_bytes": bytes(*each_kib), "fits": fits,
        }),
        Cause::Growth { actor, held_kib, over_s, siblings } => json!({
            "process": process(actor), "held": change(*held_kib), "over_s": over_s,
            "siblings": siblings.map(|(count, each)| json!({ "count": count, "each_bytes": bytes(each) })),
        }),
        Cause::Shared { unit, mount, held_kib } => {
            json!({ "unit": unit.as_deref(), "mount": mount.as_deref(), "held": change(*held_kib) })
        }
        Cause::Spike { comm, pid, peak_kib } => {
            json!({ "name": &**comm, "pid": pid, "peak_bytes": bytes(*peak_kib) })
        }
        Cause::Thrash { reader, read_bytes, refaults } => json!({
            "process": reader.as_ref().map(process), "read_bytes_per_s": read_bytes, "refaults_per_s": refaults,
        }),
        Cause::Runaway { actor, cpus, siblings } => json!({
            "process": process(actor), "cpus_before": cpus.0, "cpus": cpus.1,
            "siblings": siblings.map(|(count, each)| json!({ "count": count, "each_cpus": each })),
        }),
        Cause::Storm { parent, comm, rate, cpus } => json!({
            "process": parent.as_ref().map(process), "child": &**comm, "per_s": rate, "cpus": cpus,
        }),
        Cause::Many { who: of, count, cpus } => json!({
            "processes": who(of), "count_before": count.0, "count": count.1, "cpus_before": cpus.0, "cpus": cpus.1,
        }),
        Cause::Throttled { cpus, share, who: of } => {
            json!({ "limit_cpus": cpus, "share": share, "processes": of.as_ref().map(who) })
        }
        Cause::Stolen { share } => json!({ "share": share }),
        Cause::Transfer { actor, bytes, before, share } => json!({
            "process": process(actor), "read_bytes_per_s": bytes.0, "written_bytes_per_s": bytes.1,
            "before_bytes_per_s": before, "share": share,
        }),
        Cause::SlowDevice { disk, request_ms } => {
            json!({ "disk": &**disk, "request_s_before": request_ms.0 / 1e3, "request_s": request_ms.1 / 1e3 })
        }
        Cause::Full { mount, free_bytes, writer } => json!({
            "mount": &**mount, "free_bytes_before": free_bytes.0, "free_bytes": free_bytes.1,
            "processes": writer.as_ref().map(|(of, _)| who(of)), "written_bytes": writer.as_ref().map(|(_, bytes)| bytes),
        }),
        Cause::Limit { used, refused, who: most } => json!({
            "used": used.0, "limit": used.1, "refused": refused, "processes": most.as_ref().map(|(of, _)| who(of)),
            "count": most.as_ref().map(|(_, count)| count),
        }),
        Cause::Unknown(why) => json!({ "why": match why {
            Why::NoBefore => "no-before",
            Why::NothingChanged => "nothing-changed",
            Why::NoSamples => "no-samples",
        } }),
    }
}

fn who(who: &Who) -> Value {
    json!({ "name": &*who.comm, "unit": who.unit.as_deref() })
}

fn process(actor: &Actor) -> Value {
    let mut object = with_pid(who(&actor.who), Some(actor.pid));
    object["command"] = json!(actor.command.as_deref());
    object
}

fn with_pid(mut object: Value, pid: Option<u32>) -> Value {
    object["pid"] = json!(pid);
    object
}

fn alibi(alibi: Alibi) -> Value {
    match alibi {
        Alibi::Killed(held) => json!({ "kind": "killed", "held_bytes": held.map(bytes) }),
        Alibi::Asked => json!({ "kind": "asked" }),
        Alibi::Constant(held) => json!({ "kind": "constant", "held_bytes": bytes(held) }),
        Alibi::Kernel(cpus) => json!({ "kind": "kernel", "cpus": cpus }),
        Alibi::Steady(cpus) => json!({ "kind": "steady", "cpus": cpus }),
    }
}

fn resource(resource: Resource) -> &'static str {
    match resource {
        Resource::Memory => "memory",
        Resource::Cpu => "cpu",
        Resource::Steal => "steal",
        Resource::Io => "io",
        Resource::Disk => "disk",
        Resource::Tasks => "tasks",
        Resource::Files => "files",
        Resource::Nothing => "none",
    }
}

fn unknown(unknown: &Unknown) -> Value {
    match unknown {
        Unknown::Exits => json!("exits"),
        Unknown::KernelLog => json!("kernel-log"),
        Unknown::PartOfMachine => json!("rest-of-the-machine"),
        Unknown::Pressure => json!("pressure"),
        Unknown::Groups => json!("units"),
        Unknown::Gap(seconds) => json!({ "gap_s": seconds }),
    }
}
