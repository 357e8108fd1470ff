//! Out-of-memory kills: victim, trigger, and biggest memory users of each.

use jiff::tz::TimeZone;
use record::oom::{MemoryUse, OomKill, Row};
use serde_json::{Value, json};

use crate::{
    error::Result,
    record::oom::{Held, Holder, Kind, Memory, Named, Origin, Report},
    render::{
        Output, table,
        text::{bytes, duration, kib_size, local, passed, printable},
    },
};

/// Growth below this is not shown, KiB per second.
const NOTABLE_GROWTH: f64 = 1024.0;

/// Shows a kill, optionally with the kernel's process table. Times are shown in `zone`.
///
/// # Errors
/// When stdout cannot be written.
pub(crate) fn report(output: &Output, report: &Report, with_table: bool, zone: &TimeZone) -> Result<()> {
    if output.is_json() {
        return output.record("oom_kill", object(report, with_table));
    }
    let words = Words { bound: matches!(report.kind, Kind::Inferred { .. }) };
    output.line(headline(report, words, zone))?;
    let facts: [(&str, Option<String>); 6] = [
        ("probably", candidates(report, words)),
        ("triggered by", trigger(report)),
        ("exhausted", exhausted(report)),
        ("memory", report.memory.as_ref().and_then(|memory| words.memory(memory))),
        ("biggest process", report.biggest.as_ref().map(|named| words.who(named))),
        ("biggest by name", report.by_name.as_ref().map(|holder| words.together(holder))),
    ];
    for (name, fact) in facts {
        if let Some(fact) = fact {
            output.line(format!("  {name:<16} {fact}"))?;
        }
    }
    match &report.kind {
        Kind::Told { kill, .. } if with_table => rows(output, kill),
        _ => Ok(()),
    }
}

fn headline(report: &Report, words: Words, zone: &TimeZone) -> String {
    let at = local(report.at, zone);
    match &report.kind {
        Kind::Told { victims, .. } if victims.is_empty() => {
            format!("{at} OOM killer invoked: no victim in the kernel log")
        }
        Kind::Told { victims, .. } => {
            let victims: Vec<_> = victims.iter().map(|victim| words.who(victim)).collect();
            format!("{at} out-of-memory kill: {}", victims.join("; "))
        }
        Kind::Inferred { kills, earliest, .. } => {
            let processes = if *kills == 1 { "process" } else { "processes" };
            let within = passed(*earliest, report.at);
            let how = "inferred: this host has no kernel log";
            format!("{at} out-of-memory kill in the {within} before: {kills} {processes} killed ({how})")
        }
    }
}

fn candidates(report: &Report, words: Words) -> Option<String> {
    let Kind::Inferred { kills, candidates, unseen, .. } = &report.kind else { return None };
    let mut all: Vec<_> = candidates.iter().map(|named| words.who(named)).collect();
    let shown = all.len() as u64 + unseen;
    let missing = match unseen {
        0 => None,
        1 => Some("a process that started and was killed between two samples".to_owned()),
        _ => Some(format!("{unseen} processes that started and were killed between two samples")),
    };
    // The most likely comes first: here, that none of the candidates was killed.
    let place = if unseen == kills { 0 } else { all.len() };
    all.splice(place..place, missing);
    Some(all.join(if shown > *kills { "; or " } else { "; and " }))
}

fn trigger(report: &Report) -> Option<String> {
    let Kind::Told { kill, .. } = &report.kind else { return None };
    let trigger = kill.trigger.as_ref()?;
    let pid = trigger.pid.map(|pid| format!(" ({pid})")).unwrap_or_default();
    let order = trigger.order.map(|order| format!(", {} pages at once", 1_u64 << order.clamp(0, 30)));
    Some(format!(
        "{}{pid}{}",
        printable(&trigger.comm),
        order.filter(|_| trigger.order > Some(0)).unwrap_or_default()
    ))
}

fn exhausted(report: &Report) -> Option<String> {
    let Kind::Told { kill, .. } = &report.kind else { return None };
    let limit = report.memory_kib.map(|kib| format!(" ({})", kib_size(kib))).unwrap_or_default();
    Some(match (&kill.oom_memcg, kill.constraint.as_deref()) {
        (Some(group), _) => format!("limit of control group {}{limit}", printable(group)),
        (None, Some("CONSTRAINT_CPUSET" | "CONSTRAINT_MEMORY_POLICY")) => {
            "memory of the allowed NUMA nodes".to_owned()
        }
        (None, _) => format!("all memory{limit}"),
    })
}

/// Puts the amounts of one kill into words.
#[derive(Clone, Copy, Debug)]
struct Words {
    /// The kill happened between two samples: the exact time is unknown.
    bound: bool,
}

impl Words {
    /// `pid 26096 apache2 (www-data), 33 MiB: /usr/sbin/apache2 -k start`
    fn who(self, named: &Named) -> String {
        let user = named.user.as_ref().map(|user| format!(" ({})", printable(user))).unwrap_or_default();
        let held = named.held.map(|held| format!(", {}", self.held(held))).unwrap_or_default();
        let is_more = |peak_kib: &u64| named.held.is_none_or(|held| *peak_kib > held.kib);
        let peak =
            named.peak_kib.filter(is_more).map(|kib| format!(", peak {}", kib_size(kib))).unwrap_or_default();
        let command =
            named.command.as_ref().map(|command| format!(": {}", printable(command))).unwrap_or_default();
        format!("pid {} {}{user}{held}{peak}{command}", named.pid, printable(&named.comm))
    }

    /// `150 × apache2 = 4.3 GiB, 4.0 GiB of it swapped out`. No share of total memory: with swap it may exceed 100 %.
    fn together(self, holder: &Holder) -> String {
        let swapped = match holder.swap_kib {
            0 => String::new(),
            kib => format!(", {} of it swapped out", kib_size(kib)),
        };
        let shared = holder.counts_shared && holder.processes > 1;
        let shared = if shared { ", shared pages counted once per process" } else { "" };
        let held = self.held(holder.held);
        format!("{} × {} = {held}{swapped}{shared}", holder.processes, printable(&holder.comm))
    }

    /// `43 MiB 0.8 s before, growing 500 MiB/s`
    fn held(self, held: Held) -> String {
        let growth = match held.origin {
            Origin::Sample { growth_kib: Some(growth), .. } if growth >= NOTABLE_GROWTH => {
                format!(", growing {}/s", kib_size(growth as u64))
            }
            _ => String::new(),
        };
        let before = self.before(held.origin).map(|before| format!(" {before}")).unwrap_or_default();
        format!("{}{before}{growth}", kib_size(held.kib))
    }

    /// `0.8 s before`; `None` for figures from the kernel log, which are as of the kill.
    fn before(self, origin: Origin) -> Option<String> {
        let Origin::Sample { age_ms, .. } = origin else { return None };
        let bound = if self.bound { "up to " } else { "" };
        Some(format!("{bound}{} before", duration(age_ms)))
    }

    /// `shared memory and tmpfs 248 MiB, processes 90 MiB, kernel 20 MiB, free 4.0 MiB = 362 MiB`, largest first.
    fn memory(self, memory: &Memory) -> Option<String> {
        let MemoryUse { total_kib, anon_kib, shmem_kib, file_kib, kernel_kib, free_kib } = memory.parts;
        let mut used = [
            ("processes", anon_kib),
            ("shared memory and tmpfs", shmem_kib),
            ("file cache", file_kib),
            ("kernel", kernel_kib),
        ];
        used.sort_by_key(|(_, kib)| std::cmp::Reverse(*kib));
        let other_kib = memory.parts.other_kib();
        let all = used.into_iter().chain([("other", other_kib), ("free", free_kib)]);
        let parts: Vec<_> = all
            .filter_map(|(name, kib)| Some(format!("{name} {}", kib_size(kib.filter(|kib| *kib > 0)?))))
            .collect();
        let sum = total_kib.filter(|_| other_kib.is_some()).map(|kib| format!(" = {}", kib_size(kib)));
        let before = self.before(memory.origin).map(|before| format!(" ({before})"));
        let rest = sum.unwrap_or_default() + &before.unwrap_or_default();
        (!parts.is_empty()).then(|| parts.join(", ") + &rest)
    }
}

/// The kernel's process table, largest first.
fn rows(output: &Output, kill: &OomKill) -> Result<()> {
    if kill.table.is_empty() {
        return output.line("  no process table in the kernel log");
    }
    let mut rows: Vec<&Row> = kill.table.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.footprint_kib()));
    let kib = |kib: Option<u64>| kib.map_or_else(|| "-".to_owned(), |kib| kib.to_string());
    let cells = rows.iter().map(|row| {
        [
            row.tgid.to_string(),
            row.uid.to_string(),
            row.total_vm_kib.to_string(),
            row.rss_kib.to_string(),
            kib(row.swap_kib),
            kib(row.pgtables_kib),
            row.oom_score_adj.map_or_else(|| "-".to_owned(), |adjustment| adjustment.to_string()),
            printable(&row.comm),
        ]
    });
    table::print(output, ["PID", "UID", "VSZ", "RSS", "SWAP", "PGTABLES", "ADJ", "NAME"], cells.collect())?;
    match kill.left_out {
        0 => Ok(()),
        lines => output.line(format!("  lines omitted by the recorder: {lines}")),
    }
}

fn object(report: &Report, with_table: bool) -> Value {
    let object = json!({
        "at": report.at, "memory_bytes": report.memory_kib.map(bytes),
        "memory_use": report.memory.as_ref().map(memory_object),
        "biggest": report.biggest.as_ref().map(named_object),
        "biggest_name": report.by_name.as_ref().map(holder_object),
    });
    let named = |all: &[Named]| all.iter().map(named_object).collect::<Vec<_>>();
    let more = match &report.kind {
        Kind::Inferred { kills, earliest, candidates, unseen } => json!({
            "inferred": true, "kills": kills, "earliest_at": earliest, "candidates": named(candidates),
            "unseen": unseen,
        }),
        Kind::Told { kill, victims } => json!({
            "inferred": false, "kills": victims.len(), "victims": named(victims),
            "trigger": kill.trigger.as_ref().map(|trigger| json!({
                "name": trigger.comm, "pid": trigger.pid, "order": trigger.order, "gfp": trigger.gfp,
            })),
            "constraint": kill.constraint, "cgroup": kill.oom_memcg, "victim_cgroup": kill.task_memcg,
            "table": with_table.then(|| kill.table.iter().map(row).collect::<Vec<_>>()),
        }),
    };
    with(object, more)
}

fn with(mut object: Value, more: Value) -> Value {
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}

fn named_object(named: &Named) -> Value {
    let known = json!({
        "pid": named.pid, "name": &*named.comm, "user": named.user.as_deref(), "command": named.command.as_deref(),
        "footprint_bytes": named.held.map(|held| bytes(held.kib)), "peak_bytes": named.peak_kib.map(bytes),
    });
    named.held.map(|held| with(known.clone(), origin(held.origin))).unwrap_or(known)
}

fn holder_object(holder: &Holder) -> Value {
    let known = json!({
        "name": &*holder.comm, "processes": holder.processes, "footprint_bytes": bytes(holder.held.kib),
        "swap_bytes": bytes(holder.swap_kib), "counts_shared": holder.counts_shared,
    });
    with(known, origin(holder.held.origin))
}

fn memory_object(memory: &Memory) -> Value {
    let parts = &memory.parts;
    let known = json!({
        "total_bytes": parts.total_kib.map(bytes), "process_bytes": parts.anon_kib.map(bytes),
        "shared_bytes": parts.shmem_kib.map(bytes), "file_bytes": parts.file_kib.map(bytes),
        "kernel_bytes": parts.kernel_kib.map(bytes), "free_bytes": parts.free_kib.map(bytes),
        "other_bytes": parts.other_kib().map(bytes),
    });
    with(known, origin(memory.origin))
}

/// Source of an amount, with its age at the kill; for an inferred kill, the maximum age.
fn origin(origin: Origin) -> Value {
    match origin {
        Origin::Kernel => json!({ "source": "kernel" }),
        Origin::Sample { age_ms, growth_kib } => json!({
            "source": "sample", "age_s": age_ms as f64 / 1e3,
            "growth_bytes_per_s": growth_kib.map(|kib| (kib * 1024.0).round()),
        }),
    }
}

fn row(row: &Row) -> Value {
    json!({
        "pid": row.tgid, "uid": row.uid, "name": row.comm, "virtual_bytes": bytes(row.total_vm_kib),
        "resident_bytes": bytes(row.rss_kib), "anon_bytes": row.anon_kib.map(bytes),
        "swap_bytes": row.swap_kib.map(bytes), "page_table_bytes": row.pgtables_kib.map(bytes),
        "oom_score_adj": row.oom_score_adj,
    })
}

#[cfg(test)]
mod tests {
    use record::oom::{Trigger, Victim};

    use super::*;
    use crate::{render::Format, render::tests::pages};

    fn named(pid: u32, comm: &str, mib: u64) -> Named {
        Named {
            pid,
            comm: comm.into(),
            user: Some("www-data".into()),
            command: Some(format!("/usr/sbin/{comm} \u{1b}[2J").into()),
            held: Some(Held { kib: mib << 10, origin: Origin::Kernel }),
            peak_kib: None,
        }
    }

    fn seen(age_ms: u64, growth_mib: f64) -> Origin {
        Origin::Sample { age_ms, growth_kib: Some(growth_mib * 1024.0) }
    }

    fn kill() -> OomKill {
        let row = |pid, comm: &str, rss_kib| Row {
            tgid: pid,
            pid,
            uid: 33,
            total_vm_kib: 2 * rss_kib,
            rss_kib,
            swap_kib: Some(29_000),
            comm: comm.into(),
            ..Row::default()
        };
        OomKill {
            trigger: Some(Trigger {
                comm: "mysqld".into(),
                pid: Some(1_200),
                gfp: Some("0x140cca".into()),
                order: Some(2),
            }),
            victims: vec![Victim { pid: 26_096, comm: "apache2".into(), ..Victim::default() }],
            constraint: Some("CONSTRAINT_NONE".into()),
            table: vec![row(300, "sshd", 900), row(26_096, "apache2", 35_000)],
            ..OomKill::default()
        }
    }

    fn reports() -> [Report; 2] {
        let parts = MemoryUse {
            total_kib: Some(613 << 10),
            anon_kib: Some(90 << 10),
            shmem_kib: Some(440 << 10),
            file_kib: Some(0),
            kernel_kib: Some(61 << 10),
            free_kib: Some(4 << 10),
        };
        let apaches = Holder {
            comm: "apache2".into(),
            processes: 150,
            held: Held { kib: 4_500_000, origin: Origin::Kernel },
            swap_kib: 4_200_000,
            counts_shared: true,
        };
        let told = Report {
            at: "2011-07-13T00:12:22Z".parse().unwrap(),
            kind: Kind::Told { kill: Box::new(kill()), victims: vec![named(26_096, "apache2", 33)] },
            biggest: Some(named(1_200, "mysqld", 210)),
            by_name: Some(apaches.clone()),
            memory_kib: Some(613 << 10),
            memory: Some(Memory { parts, origin: Origin::Kernel }),
        };
        let hog =
            Named { held: Some(Held { kib: 43 << 10, origin: seen(800, 500.0) }), ..named(9_037, "tail", 0) };
        let shell = Named { held: Some(Held { kib: 1 << 10, origin: seen(800, 0.0) }), ..named(8, "sh", 0) };
        let candidates = vec![Named { peak_kib: Some(560 << 10), ..hog.clone() }, shell];
        let inferred = Report {
            at: told.at,
            kind: Kind::Inferred {
                kills: 1,
                earliest: "2011-07-13T00:12:21.2Z".parse().unwrap(),
                candidates,
                unseen: 0,
            },
            biggest: Some(hog),
            by_name: Some(Holder {
                processes: 6,
                held: Held { kib: 30 << 10, origin: seen(800, 210.5) },
                swap_kib: 0,
                counts_shared: false,
                ..apaches
            }),
            memory_kib: Some(613 << 10),
            memory: Some(Memory {
                parts: MemoryUse { total_kib: None, kernel_kib: None, free_kib: None, ..parts },
                origin: Origin::Sample { age_ms: 800, growth_kib: None },
            }),
        };
        [told, inferred]
    }

    #[test]
    fn each_fact_has_a_line() {
        let (output, data, _) = pages(Format::Text);
        reports().iter().for_each(|kill| report(&output, kill, true, &TimeZone::UTC).unwrap());
        insta::assert_snapshot!(data.text(), @r"
        2011-07-13 00:12:22 out-of-memory kill: pid 26096 apache2 (www-data), 33 MiB: /usr/sbin/apache2 \x1b[2J
          triggered by     mysqld (1200), 4 pages at once
          exhausted        all memory (613 MiB)
          memory           shared memory and tmpfs 440 MiB, processes 90 MiB, kernel 61 MiB, other 18 MiB, free 4.0 MiB = 613 MiB
          biggest process  pid 1200 mysqld (www-data), 210 MiB: /usr/sbin/mysqld \x1b[2J
          biggest by name  150 × apache2 = 4.3 GiB, 4.0 GiB of it swapped out, shared pages counted once per process
        PID    UID  VSZ    RSS    SWAP   PGTABLES  ADJ  NAME
        26096  33   70000  35000  29000  -         -    apache2
        300    33   1800   900    29000  -         -    sshd
        2011-07-13 00:12:22 out-of-memory kill in the 800 ms before: 1 process killed (inferred: this host has no kernel log)
          probably         pid 9037 tail (www-data), 43 MiB up to 800 ms before, growing 500 MiB/s, peak 560 MiB: /usr/sbin/tail \x1b[2J; or pid 8 sh (www-data), 1.0 MiB up to 800 ms before: /usr/sbin/sh \x1b[2J
          memory           shared memory and tmpfs 440 MiB, processes 90 MiB (up to 800 ms before)
          biggest process  pid 9037 tail (www-data), 43 MiB up to 800 ms before, growing 500 MiB/s: /usr/sbin/tail \x1b[2J
          biggest by name  6 × apache2 = 30 MiB up to 800 ms before, growing 210 MiB/s
        ");
    }

    #[test]
    fn as_many_victims_are_named_as_were_killed() {
        let who = |kills, count, unseen| {
            let [_, mut inferred] = reports();
            inferred.kind = Kind::Inferred {
                kills,
                earliest: inferred.at,
                candidates: (1..).take(count).map(|pid| named(pid, "x", 1)).collect(),
                unseen,
            };
            let told = candidates(&inferred, Words { bound: true }).unwrap();
            told.replace(" x (www-data), 1.0 MiB: /usr/sbin/x \\x1b[2J", "")
        };
        assert_eq!(who(1, 2, 0), "pid 1; or pid 2");
        assert_eq!(who(2, 2, 0), "pid 1; and pid 2");
        let unseen = "a process that started and was killed between two samples";
        assert_eq!(who(1, 0, 1), unseen);
        assert_eq!(who(1, 1, 1), format!("{unseen}; or pid 1"), "too small to be likely");
        assert_eq!(who(2, 1, 1), format!("pid 1; and {unseen}"));
        let unseen = "2 processes that started and were killed between two samples";
        assert_eq!(who(3, 1, 2), format!("pid 1; and {unseen}"));
    }

    #[test]
    fn programs_get_objects() {
        let (output, data, _) = pages(Format::Json);
        reports().iter().for_each(|kill| report(&output, kill, true, &TimeZone::UTC).unwrap());
        insta::assert_snapshot!(data.text(), @r#"
        {"at":"2011-07-13T00:12:22Z","biggest":{"command":"/usr/sbin/mysqld \u001b[2J","footprint_bytes":220200960,"name":"mysqld","peak_bytes":null,"pid":1200,"source":"kernel","user":"www-data"},"biggest_name":{"counts_shared":true,"footprint_bytes":4608000000,"name":"apache2","processes":150,"source":"kernel","swap_bytes":4300800000},"cgroup":null,"constraint":"CONSTRAINT_NONE","inferred":false,"kills":1,"memory_bytes":642777088,"memory_use":{"file_bytes":0,"free_bytes":4194304,"kernel_bytes":63963136,"other_bytes":18874368,"process_bytes":94371840,"shared_bytes":461373440,"source":"kernel","total_bytes":642777088},"table":[{"anon_bytes":null,"name":"sshd","oom_score_adj":null,"page_table_bytes":null,"pid":300,"resident_bytes":921600,"swap_bytes":29696000,"uid":33,"virtual_bytes":1843200},{"anon_bytes":null,"name":"apache2","oom_score_adj":null,"page_table_bytes":null,"pid":26096,"resident_bytes":35840000,"swap_bytes":29696000,"uid":33,"virtual_bytes":71680000}],"trigger":{"gfp":"0x140cca","name":"mysqld","order":2,"pid":1200},"type":"oom_kill","v":1,"victim_cgroup":null,"victims":[{"command":"/usr/sbin/apache2 \u001b[2J","footprint_bytes":34603008,"name":"apache2","peak_bytes":null,"pid":26096,"source":"kernel","user":"www-data"}]}
        {"at":"2011-07-13T00:12:22Z","biggest":{"age_s":0.8,"command":"/usr/sbin/tail \u001b[2J","footprint_bytes":45088768,"growth_bytes_per_s":524288000.0,"name":"tail","peak_bytes":null,"pid":9037,"source":"sample","user":"www-data"},"biggest_name":{"age_s":0.8,"counts_shared":false,"footprint_bytes":31457280,"growth_bytes_per_s":220725248.0,"name":"apache2","processes":6,"source":"sample","swap_bytes":0},"candidates":[{"age_s":0.8,"command":"/usr/sbin/tail \u001b[2J","footprint_bytes":45088768,"growth_bytes_per_s":524288000.0,"name":"tail","peak_bytes":587202560,"pid":9037,"source":"sample","user":"www-data"},{"age_s":0.8,"command":"/usr/sbin/sh \u001b[2J","footprint_bytes":1048576,"growth_bytes_per_s":0.0,"name":"sh","peak_bytes":null,"pid":8,"source":"sample","user":"www-data"}],"earliest_at":"2011-07-13T00:12:21.2Z","inferred":true,"kills":1,"memory_bytes":642777088,"memory_use":{"age_s":0.8,"file_bytes":0,"free_bytes":null,"growth_bytes_per_s":null,"kernel_bytes":null,"other_bytes":null,"process_bytes":94371840,"shared_bytes":461373440,"source":"sample","total_bytes":null},"type":"oom_kill","unseen":0,"v":1}
        "#);
    }
}
