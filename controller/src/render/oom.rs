//! Kills for want of memory: for each, who was killed, who had asked, and who held the memory.

use jiff::tz::TimeZone;
use proto::history::oom::{OomKill, Row};
use serde_json::{Value, json};

use super::{
    Output,
    cpu_log::remark::local,
    table,
    text::{printable, size},
};
use crate::{
    error::Result,
    oom::{Holder, Kind, Named, Report},
};

/// Shows a kill, with the kernel's table of processes if that is wanted. Times are shown in `zone`.
///
/// # Errors
/// When stdout cannot be written.
pub fn report(output: &Output, report: &Report, with_table: bool, zone: &TimeZone) -> Result<()> {
    if output.is_json() {
        return output.record("oom_kill", object(report, with_table));
    }
    output.line(headline(report, zone))?;
    let facts: [(&str, Option<String>); 5] = [
        ("asked for by", asked(report)),
        ("ran out", ran_out(report)),
        ("biggest process", report.biggest.as_ref().map(who)),
        ("biggest by name", report.by_name.as_ref().map(|holder| together(holder, report.memory_kib))),
        ("may be", candidates(report)),
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

fn headline(report: &Report, zone: &TimeZone) -> String {
    let at = local(report.at, zone);
    match &report.kind {
        Kind::Told { victims, .. } if victims.is_empty() => {
            format!("{at} the kernel looked for a process to kill")
        }
        Kind::Told { victims, .. } => {
            format!("{at} killed {}", victims.iter().map(who).collect::<Vec<_>>().join("; "))
        }
        Kind::Inferred { kills, .. } => {
            format!("{at} killed: {kills}; inferred from counters, for the kernel's log cannot be read there")
        }
    }
}

fn candidates(report: &Report) -> Option<String> {
    let Kind::Inferred { candidates, .. } = &report.kind else { return None };
    match candidates.as_slice() {
        [] => Some("a process that no sample shows".to_owned()),
        candidates => Some(candidates.iter().map(who).collect::<Vec<_>>().join("; ")),
    }
}

fn asked(report: &Report) -> Option<String> {
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

fn ran_out(report: &Report) -> Option<String> {
    let Kind::Told { kill, .. } = &report.kind else { return None };
    let limit =
        report.memory_kib.map(|kib| format!(" of {}", size(kib.saturating_mul(1024)))).unwrap_or_default();
    Some(match (&kill.oom_memcg, kill.constraint.as_deref()) {
        (Some(group), _) => format!("the limit{limit} of control group {}", printable(group)),
        (None, Some("CONSTRAINT_CPUSET" | "CONSTRAINT_MEMORY_POLICY")) => {
            "the memory of the NUMA nodes that it may use".to_owned()
        }
        (None, _) => format!("all memory{limit}"),
    })
}

/// `26096 apache2 (www-data), 33 MiB: /usr/sbin/apache2 -k start`
fn who(named: &Named) -> String {
    let user = named.user.as_ref().map(|user| format!(" ({})", printable(user))).unwrap_or_default();
    let held =
        named.footprint_kib.map(|kib| format!(", {}", size(kib.saturating_mul(1024)))).unwrap_or_default();
    let command =
        named.command.as_ref().map(|command| format!(": {}", printable(command))).unwrap_or_default();
    format!("{} {}{user}{held}{command}", named.pid, printable(&named.comm))
}

/// `150 × apache2 = 4.3 GiB of 613 MiB`
fn together(holder: &Holder, memory_kib: Option<u64>) -> String {
    let of = memory_kib.map(|kib| format!(" of {}", size(kib.saturating_mul(1024)))).unwrap_or_default();
    let held = size(holder.footprint_kib.saturating_mul(1024));
    format!("{} × {} = {held}{of}", holder.processes, printable(&holder.comm))
}

/// The kernel's table, the largest first.
fn rows(output: &Output, kill: &OomKill) -> Result<()> {
    if kill.table.is_empty() {
        return output.line("  the kernel printed no table of processes");
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
        lines => output.line(format!("  lines left out by the recorder: {lines}")),
    }
}

fn object(report: &Report, with_table: bool) -> Value {
    let bytes = |kib: u64| kib.saturating_mul(1024);
    let named = |named: &Named| {
        json!({
            "pid": named.pid, "name": &*named.comm, "user": named.user.as_deref(), "command": named.command.as_deref(),
            "footprint_bytes": named.footprint_kib.map(bytes),
        })
    };
    let mut object = json!({
        "at": report.at, "memory_bytes": report.memory_kib.map(bytes),
        "biggest": report.biggest.as_ref().map(named),
        "biggest_name": report.by_name.as_ref().map(|holder| json!({
            "name": &*holder.comm, "processes": holder.processes, "footprint_bytes": bytes(holder.footprint_kib),
        })),
    });
    let more = match &report.kind {
        Kind::Inferred { kills, candidates } => json!({
            "inferred": true, "kills": kills, "candidates": candidates.iter().map(named).collect::<Vec<_>>(),
        }),
        Kind::Told { kill, victims } => json!({
            "inferred": false, "kills": victims.len(), "victims": victims.iter().map(named).collect::<Vec<_>>(),
            "trigger": kill.trigger.as_ref().map(|trigger| json!({
                "name": trigger.comm, "pid": trigger.pid, "order": trigger.order, "gfp": trigger.gfp,
            })),
            "constraint": kill.constraint, "cgroup": kill.oom_memcg, "victim_cgroup": kill.task_memcg,
            "table": with_table.then(|| kill.table.iter().map(row).collect::<Vec<_>>()),
        }),
    };
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}

fn row(row: &Row) -> Value {
    let bytes = |kib: u64| kib.saturating_mul(1024);
    json!({
        "pid": row.tgid, "uid": row.uid, "name": row.comm, "virtual_bytes": bytes(row.total_vm_kib),
        "resident_bytes": bytes(row.rss_kib), "anon_bytes": row.anon_kib.map(bytes),
        "swap_bytes": row.swap_kib.map(bytes), "page_table_bytes": row.pgtables_kib.map(bytes),
        "oom_score_adj": row.oom_score_adj,
    })
}

#[cfg(test)]
mod tests {
    use proto::history::oom::{Trigger, Victim};

    use super::*;
    use crate::{cli::Format, render::tests::pages};

    fn named(pid: u32, comm: &str, mib: u64) -> Named {
        Named {
            pid,
            comm: comm.into(),
            user: Some("www-data".into()),
            command: Some(format!("/usr/sbin/{comm} \u{1b}[2J").into()),
            footprint_kib: Some(mib << 10),
        }
    }

    fn reports() -> [Report; 2] {
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
        let kill = OomKill {
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
        };
        let told = Report {
            at: "2011-07-13T00:12:22Z".parse().unwrap(),
            kind: Kind::Told { kill: Box::new(kill), victims: vec![named(26_096, "apache2", 33)] },
            biggest: Some(named(1_200, "mysqld", 210)),
            by_name: Some(Holder { comm: "apache2".into(), processes: 150, footprint_kib: 4_500_000 }),
            memory_kib: Some(613 << 10),
        };
        let kind = Kind::Inferred { kills: 1, candidates: vec![named(7, "hog", 400), named(8, "sh", 1)] };
        [told.clone(), Report { kind, ..told }]
    }

    #[test]
    fn each_question_has_a_line() {
        let (output, data, _) = pages(Format::Text);
        reports().iter().for_each(|kill| report(&output, kill, true, &TimeZone::UTC).unwrap());
        insta::assert_snapshot!(data.text(), @r"
        2011-07-13 00:12:22 killed 26096 apache2 (www-data), 33 MiB: /usr/sbin/apache2 \x1b[2J
          asked for by     mysqld (1200), 4 pages at once
          ran out          all memory of 613 MiB
          biggest process  1200 mysqld (www-data), 210 MiB: /usr/sbin/mysqld \x1b[2J
          biggest by name  150 × apache2 = 4.3 GiB of 613 MiB
        PID    UID  VSZ    RSS    SWAP   PGTABLES  ADJ  NAME
        26096  33   70000  35000  29000  -         -    apache2
        300    33   1800   900    29000  -         -    sshd
        2011-07-13 00:12:22 killed: 1; inferred from counters, for the kernel's log cannot be read there
          biggest process  1200 mysqld (www-data), 210 MiB: /usr/sbin/mysqld \x1b[2J
          biggest by name  150 × apache2 = 4.3 GiB of 613 MiB
          may be           7 hog (www-data), 400 MiB: /usr/sbin/hog \x1b[2J; 8 sh (www-data), 1.0 MiB: /usr/sbin/sh \x1b[2J
        ");
    }

    #[test]
    fn programs_get_objects() {
        let (output, data, _) = pages(Format::Json);
        reports().iter().for_each(|kill| report(&output, kill, true, &TimeZone::UTC).unwrap());
        insta::assert_snapshot!(data.text(), @r#"
        {"at":"2011-07-13T00:12:22Z","biggest":{"command":"/usr/sbin/mysqld \u001b[2J","footprint_bytes":220200960,"name":"mysqld","pid":1200,"user":"www-data"},"biggest_name":{"footprint_bytes":4608000000,"name":"apache2","processes":150},"cgroup":null,"constraint":"CONSTRAINT_NONE","inferred":false,"kills":1,"memory_bytes":642777088,"table":[{"anon_bytes":null,"name":"sshd","oom_score_adj":null,"page_table_bytes":null,"pid":300,"resident_bytes":921600,"swap_bytes":29696000,"uid":33,"virtual_bytes":1843200},{"anon_bytes":null,"name":"apache2","oom_score_adj":null,"page_table_bytes":null,"pid":26096,"resident_bytes":35840000,"swap_bytes":29696000,"uid":33,"virtual_bytes":71680000}],"trigger":{"gfp":"0x140cca","name":"mysqld","order":2,"pid":1200},"type":"oom_kill","v":1,"victim_cgroup":null,"victims":[{"command":"/usr/sbin/apache2 \u001b[2J","footprint_bytes":34603008,"name":"apache2","pid":26096,"user":"www-data"}]}
        {"at":"2011-07-13T00:12:22Z","biggest":{"command":"/usr/sbin/mysqld \u001b[2J","footprint_bytes":220200960,"name":"mysqld","pid":1200,"user":"www-data"},"biggest_name":{"footprint_bytes":4608000000,"name":"apache2","processes":150},"candidates":[{"command":"/usr/sbin/hog \u001b[2J","footprint_bytes":419430400,"name":"hog","pid":7,"user":"www-data"},{"command":"/usr/sbin/sh \u001b[2J","footprint_bytes":1048576,"name":"sh","pid":8,"user":"www-data"}],"inferred":true,"kills":1,"memory_bytes":642777088,"type":"oom_kill","v":1}
        "#);
    }
}
