//! Who or what caused an incident, in words.

use super::words::{cpu, name, process, room};
use crate::{
    record::diagnose::verdict::{Cause, Verdict, Why},
    render::text::{duration, kib_size, printable, size},
};

/// The cause as the second half of a sentence.
pub(super) fn cause(verdict: &Verdict) -> String {
    of_memory(verdict)
        .or_else(|| of_cpu(verdict))
        .or_else(|| of_disks_and_limits(verdict))
        .unwrap_or_default()
}

/// Memory.
fn of_memory(verdict: &Verdict) -> Option<String> {
    Some(match &verdict.cause {
        Cause::Pool { who, count, held_kib, each_kib, .. } => {
            let (held, each) = (kib_size(held_kib.1), kib_size(*each_kib));
            format!("{} {} hold {held}{}, usually {each} each", number(*count), name(who), room(verdict))
        }
        Cause::Growth { actor, held_kib, over_s, siblings } => {
            let siblings = siblings.map(|(count, each)| others(count, "holds", "hold", &kib_size(each)));
            let over = duration((over_s * 1e3) as u64);
            let grew = match held_kib.0 {
                0 => format!("started and grew to {} within {over}", kib_size(held_kib.1)),
                before => format!("grew from {} to {} within {over}", kib_size(before), kib_size(held_kib.1)),
            };
            format!("{} {grew}{}", process(actor), siblings.unwrap_or_default())
        }
        Cause::Shared { unit, mount, held_kib } => {
            let place = mount.as_deref().map(|mount| format!(" in {}", printable(mount))).unwrap_or_default();
            let writer = match unit.as_deref() {
                Some(unit) => format!(", written by {}", printable(unit)),
                None => "; who wrote it is not known".to_owned(),
            };
            format!(
                "shared memory and files in memory{place} grew from {} to {}{writer}",
                kib_size(held_kib.0),
                kib_size(held_kib.1)
            )
        }
        Cause::Spike { comm, pid, peak_kib } => {
            format!("{} ({pid}) took {} at most and is gone", printable(comm), kib_size(*peak_kib))
        }
        Cause::Thrash { reader, read_bytes, refaults } => {
            let reader = reader
                .as_ref()
                .map(|reader| format!("; {} reads most, {}/s", process(reader), size(*read_bytes as u64)));
            format!(
                "no process grew, but the memory left for files is too small: {refaults:.0} file pages a second are read again{}",
                reader.unwrap_or_default()
            )
        }
        _ => return None,
    })
}

/// CPU time.
fn of_cpu(verdict: &Verdict) -> Option<String> {
    Some(match &verdict.cause {
        Cause::Runaway { actor, cpus, siblings } => {
            let siblings = siblings.map(|(count, each)| others(count, "uses", "use", &cpu(each)));
            format!(
                "{} uses {}, {} before{}",
                process(actor),
                cpu(cpus.1),
                cpu(cpus.0),
                siblings.unwrap_or_default()
            )
        }
        Cause::Storm { parent, comm, rate, cpus } => {
            let parent = parent.as_ref().map_or_else(|| "a process that no sample shows".to_owned(), process);
            format!("{parent} starts {rate:.0} × {} a second, which use {}", printable(comm), cpu(*cpus))
        }
        Cause::Many { who, count, cpus } => {
            format!("{} {} use {}, {} before", number(*count), name(who), cpu(cpus.1), cpu(cpus.0))
        }
        Cause::Throttled { cpus, share, who } => {
            let limit = cpus.map(|cpus| format!(" of {}", cpu(cpus))).unwrap_or_default();
            let who = who
                .as_ref()
                .map(|who| format!("; {} uses most in it", printable(&who.comm)))
                .unwrap_or_default();
            format!(
                "its limit{limit} is too small for its work: it stood still for {:.0} % of the time{who}",
                share * 100.0
            )
        }
        Cause::Stolen { share } => {
            format!("{:.0} % of the CPU time, so the cause is outside of this host", share * 100.0)
        }
        _ => return None,
    })
}

/// Disks, file systems, limits, and no cause found.
fn of_disks_and_limits(verdict: &Verdict) -> Option<String> {
    Some(match &verdict.cause {
        Cause::Transfer { actor, bytes, before, share } => {
            let did = if bytes.0 > bytes.1 { "reads" } else { "writes" };
            let rate = size((bytes.0 + bytes.1) as u64);
            format!(
                "{} {did} {rate}/s, {:.0} % of all ({}/s before)",
                process(actor),
                share * 100.0,
                size(*before as u64)
            )
        }
        Cause::SlowDevice { disk, request_ms } => format!(
            "no more data than before, but {} takes {:.0} ms for a request ({:.1} ms before)",
            printable(disk),
            request_ms.1,
            request_ms.0
        ),
        Cause::Full { free_bytes, writer, .. } => {
            let from = format!("{} free before, {} now", size(free_bytes.0), size(free_bytes.1));
            match writer {
                Some((who, bytes)) => format!("{} wrote {} ({from})", name(who), size(*bytes)),
                None => format!("who wrote it is not known ({from})"),
            }
        }
        Cause::Limit { used, refused, who } => {
            let refused = refused.map(|refused| format!(", {refused} attempts failed")).unwrap_or_default();
            let who = who
                .as_ref()
                .map(|(who, count)| format!("; {} has {count} of them", name(who)))
                .unwrap_or_default();
            format!("{} of {} in use{refused}{who}", used.0, used.1)
        }
        Cause::Unknown(why) => format!("not attributed: {}", reason(*why)),
        _ => return None,
    })
}

fn reason(why: Why) -> &'static str {
    match why {
        Why::NoBefore => "it was already so when the record begins",
        Why::NothingChanged => "no group of processes changed enough to explain it",
        Why::NoSamples => "no sample was taken at that time",
    }
}

/// `25 → 150 ×`, or `150 ×` if there were as many before.
fn number((before, now): (u64, u64)) -> String {
    if before < now { format!("{before} → {now} ×") } else { format!("{now} ×") }
}

/// ` (3 others like it hold 30 MiB each)`
fn others(count: u64, one: &str, many: &str, each: &str) -> String {
    match count {
        1 => format!(" (1 other like it {one} {each})"),
        _ => format!(" ({count} others like it {many} {each} each)"),
    }
}
