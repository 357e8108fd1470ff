//! The sentences of a verdict.

use jiff::{Timestamp, tz::TimeZone};

use super::{Subject, causes::cause};
use crate::{
    record::{
        diagnose::verdict::{Actor, Alibi, Cause, Resource, Unknown, Verdict, Who},
        names::unit,
        time::timestamp,
    },
    render::text::{duration, kib_size, local, printable},
};

/// What ran out, who caused it, and since when.
pub(super) fn headline(verdict: &Verdict) -> String {
    let what = what_ran_out(verdict);
    let cause = cause(verdict);
    let lasted = duration((verdict.until_ms - verdict.from_ms).max(0) as u64);
    match verdict.resource {
        Resource::Nothing => cause,
        _ if verdict.goes_on => {
            format!("{what}, and still did when the window ended, after {lasted}: {cause}")
        }
        _ => format!("{what}, for {lasted}: {cause}"),
    }
}

fn what_ran_out(verdict: &Verdict) -> String {
    let scope = verdict.scope.as_deref().map(scope);
    match (verdict.resource, scope) {
        (Resource::Memory, Some(unit)) => format!("memory ran out within the limit of {unit}"),
        (Resource::Memory, None) if verdict.stall.kills > 0 => "memory ran out".to_owned(),
        (Resource::Memory, None) => "memory was short: all tasks stood still".to_owned(),
        (Resource::Cpu, Some(unit)) => format!("{unit} was stopped at its CPU limit"),
        (Resource::Cpu, None) => "CPU time ran out".to_owned(),
        (Resource::Steal, _) => "the hypervisor gave CPU time to other guests".to_owned(),
        (Resource::Io, _) => "a disk was too slow for its load".to_owned(),
        (Resource::Disk, Some(mount)) => format!("{mount} was full"),
        (Resource::Disk, None) => "a file system was full".to_owned(),
        (Resource::Tasks, Some(unit)) => format!("{unit} reached its limit of tasks"),
        (Resource::Tasks, None) => "the host reached its limit of tasks".to_owned(),
        (Resource::Files, _) => "the host reached its limit of open files".to_owned(),
        (Resource::Nothing, _) => "nothing has run out yet".to_owned(),
    }
}

/// A control group's unit, or its path; a file system's mount point stays as it is.
fn scope(path: &str) -> String {
    printable(unit(path).unwrap_or(path))
}

/// What the verdict rests on, in figures.
pub(super) fn evidence(verdict: &Verdict) -> Vec<String> {
    let stall = &verdict.stall;
    let mut parts = Vec::new();
    if stall.kills > 0 {
        parts.push(format!("{} killed because memory ran out", count(stall.kills, "process", "processes")));
    }
    if let Some((used, limit)) = stall.memory_kib.filter(|_| verdict.scope.is_none()) {
        parts.push(format!("memory {} of {}", kib_size(used), kib_size(limit)));
    }
    if let Some((used, all)) = stall.swap_kib {
        parts.push(format!("swap {} of {}", kib_size(used), kib_size(all)));
    }
    if let Some(shared) = stall.shmem_kib.filter(|kib| *kib > 16 << 10) {
        parts.push(format!("shared memory {}", kib_size(shared)));
    }
    let mut lines = vec![parts.join("; ")];
    let mut stood = Vec::new();
    let mut stalled = |seconds: f64, what: &str| {
        if seconds >= 0.5 {
            stood.push(format!("{} {what}", duration((seconds * 1e3) as u64)));
        }
    };
    stalled(stall.memory_full_s, "all tasks waited for memory");
    stalled(stall.io_full_s, "all tasks waited for I/O");
    stalled(stall.cpu_some_s, "some task waited for a CPU");
    lines.push(stood.join("; "));
    if let Some((busy, system)) = stall.busy {
        lines.push(format!("CPU {:.0} % busy, {:.0} % in the kernel", busy * 100.0, system * 100.0));
    }
    if !stall.waited_in.is_empty() {
        let waited = stall.waited_in.iter().map(|(name, count)| format!("{} ({count} ×)", printable(name)));
        lines.push(format!("tasks waited in {}", waited.collect::<Vec<_>>().join(", ")));
    }
    if stall.late_ms >= 500 {
        lines.push(format!("samples came up to {} late", duration(stall.late_ms)));
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// Who was killed, in groups.
pub(super) fn victims(verdict: &Verdict) -> Vec<String> {
    let mut groups: Vec<(&Who, u64, Option<u32>)> = Vec::new();
    for (who, pid) in &verdict.victims {
        match groups.iter_mut().find(|(known, _, _)| *known == who) {
            Some((_, count, _)) => *count += 1,
            None => groups.push((who, 1, *pid)),
        }
    }
    let words = groups.into_iter().map(|(who, count, pid)| match (count, pid) {
        (1, Some(pid)) => format!("{} ({pid})", name(who)),
        _ => format!("{count} × {}", name(who)),
    });
    let words: Vec<_> = words.collect();
    if words.is_empty() { Vec::new() } else { vec![words.join(", ")] }
}

/// Who looks guilty and is not.
pub(super) fn innocents(verdict: &Verdict) -> Vec<String> {
    let innocents = verdict.innocents.iter().map(|innocent| {
        let pid = innocent.pid.map(|pid| format!(" ({pid})")).unwrap_or_default();
        let name = format!("{}{pid}", name(&innocent.who));
        match innocent.alibi {
            Alibi::Killed(Some(held)) => {
                format!("{name} was killed, but held {} all the time", kib_size(held))
            }
            Alibi::Killed(None) => format!("{name} was killed; that says nothing about the cause"),
            Alibi::Asked => format!("{name} only asked for the last page"),
            Alibi::Constant(held) => format!("{name} holds most ({}), but did not grow", kib_size(held)),
            Alibi::Kernel(cpus) => format!("{name} uses {}, but works for others", cpu(cpus)),
            Alibi::Steady(cpus) => format!("{name} uses {}, as before", cpu(cpus)),
        }
    });
    innocents.collect()
}

/// What follows from it.
pub(super) fn symptoms(verdict: &Verdict) -> Vec<String> {
    let words = verdict.symptoms.iter().map(|resource| match resource {
        Resource::Cpu => "busy CPUs: the kernel looks for memory",
        Resource::Io => "busy disks: memory is written to swap and read again",
        _ => "stolen CPU time",
    });
    words.map(str::to_owned).collect()
}

/// The run that may have caused it.
pub(super) fn run(verdict: &Verdict, zone: &TimeZone) -> Vec<String> {
    let Some(run) = &verdict.run else { return Vec::new() };
    let started = local(timestamp(run.started_unix_ms), zone);
    let ended = match run.finished_unix_ms {
        0 => "has not ended".to_owned(),
        ended if ended > verdict.from_ms => "was in progress".to_owned(),
        ended => format!("ended {} before", duration((verdict.from_ms - ended) as u64)),
    };
    vec![format!(
        "{} {} by {}, started {started}, {ended}",
        run.what,
        printable(&run.run_id),
        printable(&run.user)
    )]
}

/// What to do.
pub(super) fn advice(verdict: &Verdict) -> Vec<String> {
    let advice = match &verdict.cause {
        Cause::Pool { who, each_kib, fits: Some(fits), .. } => {
            let at_most =
                if *fits == 0 { "not even one fits".to_owned() } else { format!("at most {fits} fit") };
            format!(
                "limit the number of {} processes: {at_most} beside everything else, at {} each",
                printable(&who.comm),
                kib_size(*each_kib)
            )
        }
        Cause::Pool { who, .. } => {
            format!("limit the number of {} processes, or their size", printable(&who.comm))
        }
        Cause::Growth { actor, .. } if is_run(actor) => {
            "give the command a limit of its own (systemd-run -p MemoryMax=), or run it elsewhere".to_owned()
        }
        Cause::Growth { actor, .. } => format!(
            "restart {}; give it a limit of its own (MemoryMax=), and look for what it keeps",
            actor.who.unit.as_deref().map_or_else(|| printable(&actor.who.comm), printable)
        ),
        Cause::Shared { mount: Some(mount), .. } => {
            format!("delete files in {}, and limit its size (mount option size=)", printable(mount))
        }
        Cause::Shared { .. } => {
            "find the files in /dev/shm, /run and /tmp, and the segments of `ipcs -m`".to_owned()
        }
        Cause::Spike { comm, .. } => {
            format!("give {} a limit of its own, or run it elsewhere", printable(comm))
        }
        Cause::Thrash { .. } => "add memory, or take away what holds it".to_owned(),
        Cause::Runaway { actor, .. } => format!("see what {} is doing before you restart it", actor.pid),
        Cause::Storm { .. } => {
            "see why the parent starts so many: a loop in a script, or a check that fails at once".to_owned()
        }
        Cause::Many { .. } => "more work came in: limit it, or add CPUs".to_owned(),
        Cause::Throttled { .. } => "raise CPUQuota= of the unit, if the work is wanted".to_owned(),
        Cause::Stolen { .. } => {
            "move to another instance type or machine; nothing on this host helps".to_owned()
        }
        Cause::Transfer { .. } => {
            "let it work more slowly (IOWeight=, ionice), or at another time".to_owned()
        }
        Cause::SlowDevice { .. } => {
            "check the disk or its volume's limits: no process of this host is the cause".to_owned()
        }
        Cause::Full { .. } => "delete or rotate what it writes, or enlarge the file system".to_owned(),
        Cause::Limit { .. } if verdict.scope.is_some() => {
            "find why it starts so many, or raise TasksMax= of the unit".to_owned()
        }
        Cause::Limit { .. } => "find why there are so many, or raise the limit".to_owned(),
        Cause::Unknown(_) => return Vec::new(),
    };
    vec![advice]
}

/// Whether a process belonged to a run of ours, which ends with its command.
fn is_run(actor: &Actor) -> bool {
    actor.who.unit.as_deref().is_some_and(|unit| unit.starts_with("magpie-run-"))
}

/// What cannot be known on this host.
pub(super) fn unknown(unknown: &[Unknown]) -> Vec<String> {
    let words = unknown.iter().map(|unknown| match unknown {
        Unknown::Exits => "short-lived processes: this host does not record process exits".to_owned(),
        Unknown::KernelLog => "what the kernel says about kills: its log is not recorded".to_owned(),
        Unknown::PartOfMachine => "other load of the machine: this host is a part of it".to_owned(),
        Unknown::Pressure => "pressure: this host's kernel does not report it".to_owned(),
        Unknown::Groups => "limits of units: their counters are not in this record".to_owned(),
        Unknown::Gap(seconds) => format!("what happened in a gap of {seconds} s without a sample"),
    });
    words.collect()
}

/// Commands that show more.
pub(super) fn commands(verdict: &Verdict, subject: &Subject, zone: &TimeZone) -> Vec<String> {
    let at = |ms: i64| local(Timestamp::from_millisecond(ms).unwrap_or_default(), zone);
    let window =
        format!("--since '{}' --until '{}'", at(verdict.from_ms - 10_000), at(verdict.until_ms + 5_000));
    let place = &subject.argument;
    let log = |sort: &str| format!("ctl cpu-log {place} {window} --sort {sort}");
    match verdict.resource {
        Resource::Memory if verdict.stall.kills > 0 => {
            vec![format!("ctl oom {place} {window}"), log("footprint")]
        }
        Resource::Memory => vec![log("footprint")],
        Resource::Io | Resource::Disk => vec![log("io")],
        Resource::Nothing if matches!(verdict.cause, Cause::Growth { .. } | Cause::Pool { .. }) => {
            vec![log("footprint")]
        }
        _ => vec![log("cpu")],
    }
}

/// `apache2 in apache2.service`, or only the name if the unit says the same.
pub(super) fn name(who: &Who) -> String {
    match who.unit.as_deref() {
        Some(unit) if unit.strip_suffix(".service") != Some(&*who.comm) => {
            format!("{} in {}", printable(&who.comm), printable(unit))
        }
        _ => printable(&who.comm),
    }
}

pub(super) fn process(actor: &Actor) -> String {
    format!("{} ({})", name(&actor.who), actor.pid)
}

/// The memory that there is, for what holds more than that.
pub(super) fn room(verdict: &Verdict) -> String {
    let Some((_, memory)) = verdict.stall.memory_kib.filter(|_| verdict.scope.is_none()) else {
        return String::new();
    };
    let swap = verdict
        .stall
        .swap_kib
        .map(|(_, swap)| format!(" and {} of swap", kib_size(swap)))
        .unwrap_or_default();
    format!(" (there is {} of memory{swap})", kib_size(memory))
}

/// `8 % of a CPU`, `1.4 CPUs`
pub(super) fn cpu(cpus: f64) -> String {
    if cpus < 0.995 { format!("{:.0} % of a CPU", cpus * 100.0) } else { format!("{cpus:.1} CPUs") }
}

fn count(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
