//! Tables of host status and of runs.

use jiff::{Timestamp, tz::TimeZone};
use proto::{
    pb,
    run::{self, apply, is_plan},
};
use serde_json::json;

use super::{
    Output,
    live::json_summary,
    record::info,
    text::{age, duration, local, printable, size, state},
};
use crate::{error::Result, provider::Host};

/// Prints the name of a new host.
///
/// # Errors
/// When stdout cannot be written; a closed pipe is no error.
pub(crate) fn made(output: &Output, host: &Host) -> Result<()> {
    if output.is_json() { output.record("host", json!(host)) } else { output.line(&host.name) }
}

/// Prints the status of hosts.
///
/// # Errors
/// When stdout cannot be written; a closed pipe is no error.
pub(crate) fn status(output: &Output, replies: &[(String, pb::StatusReply)], now: Timestamp) -> Result<()> {
    if output.is_json() {
        return replies.iter().try_for_each(|(host, reply)| json_status(output, host, reply));
    }
    let rows = replies.iter().map(|(host, reply)| {
        let apply = reply.last_apply.as_ref().map_or_else(
            || "never applied".to_owned(),
            |apply| format!("{} {} ago", apply.state, since(apply.finished_unix_ms, now)),
        );
        let memory = reply.memory_total_bytes.saturating_sub(reply.memory_available_bytes);
        let memory = format!("{} of {}", size(memory), size(reply.memory_total_bytes));
        let recorder = match &reply.recorder {
            Some(recorder) if recorder.running => {
                format!("{} {} {}", recorder.collector, info::cpu(recorder), size(recorder.bytes))
            }
            _ => "stopped".to_owned(),
        };
        let up = age(reply.uptime_s.saturating_mul(1_000));
        let (commit, bundle) = (or_dash(reply.commit.clone()), or_dash(short(&reply.bundle)));
        [host.clone(), up, apply, commit, bundle, memory, recorder, reply.agent_version.clone()]
    });
    let head = ["NAME", "UP", "LAST APPLY", "COMMIT", "BUNDLE", "MEMORY", "RECORD", "AGENT"];
    print(output, head, rows.collect())?;
    for (host, reply) in replies {
        if let Some(run) = &reply.active_run {
            output.note(&format!("{host}: run {} is in progress", printable(run)));
        }
        if let Some(recorder) = reply.recorder.as_ref().filter(|recorder| recorder.running) {
            recorder_notes(output, host, recorder);
        }
        reply.degraded.iter().for_each(|sentence| output.note(&format!("{host}: {}", printable(sentence))));
    }
    Ok(())
}

/// Says how many hosts are not in a table of running hosts because they are stopped.
pub(crate) fn left_out(output: &Output, stopped: usize) {
    match stopped {
        0 => {}
        1 => output.note("1 stopped host is left out; `ctl hosts` shows it"),
        count => output.note(&format!("{count} stopped hosts are left out; `ctl hosts` shows them")),
    }
}

fn recorder_notes(output: &Output, host: &str, recorder: &pb::Recorder) {
    if !recorder.missing.is_empty() {
        output.note(&format!("{host}: recorder {}", info::collector(recorder)));
    }
    if recorder.dropped > 0 {
        output.note(&format!("{host}: dropped samples: {}", recorder.dropped));
    }
}

/// Prints recent runs in the given order. Times are shown in `zone`.
///
/// # Errors
/// When stdout cannot be written; a closed pipe is no error.
pub(crate) fn runs(output: &Output, runs: &[(String, pb::Run)], zone: &TimeZone) -> Result<()> {
    if output.is_json() {
        return runs.iter().try_for_each(|(host, run)| json_run(output, host, run));
    }
    let rows = runs.iter().map(|(_, run)| {
        let started = Timestamp::from_millisecond(run.started_unix_ms).unwrap_or_default();
        let took = match u64::try_from(run.finished_unix_ms - run.started_unix_ms) {
            Ok(took) if run.finished_unix_ms > 0 => duration(took),
            _ => String::new(),
        };
        [
            run.run_id.clone(),
            state(run.state()).0.into(),
            run.user.clone(),
            local(started, zone),
            took,
            or_dash(apply(run).map(|apply| apply.commit.clone()).unwrap_or_default()),
            or_dash(apply(run).map(|apply| short(&apply.bundle)).unwrap_or_default()),
            format!("{}{}", what(run), would_change(run)),
        ]
    });
    let head = ["RUN", "STATE", "USER", "STARTED", "TOOK", "COMMIT", "BUNDLE", "WHAT"];
    print(output, head, rows.collect())
}

/// The first 12 digits of a digest.
pub(super) fn short(digest: &str) -> String {
    digest.get(..12).unwrap_or(digest).to_owned()
}

pub(super) fn or_dash(cell: String) -> String {
    if cell.is_empty() { "-".to_owned() } else { cell }
}

fn what(run: &pb::Run) -> String {
    use pb::start_request::What;
    match run::what(run) {
        Some(What::Apply(apply)) => {
            format!("{} as {}", if apply.noop { "plan" } else { "apply" }, apply.role)
        }
        Some(What::Command(command)) => command.argv.join(" ").replace(['\n', '\t'], " "),
        None => String::new(),
    }
}

/// What a plan found, as its state does not say: a plan that ran is `succeeded` however much would change.
fn would_change(run: &pb::Run) -> String {
    match &run.summary {
        Some(summary) if is_plan(run) && summary.pending > 0 => format!(": {} would change", summary.pending),
        _ => String::new(),
    }
}

fn json_run(output: &Output, host: &str, run: &pb::Run) -> Result<()> {
    output.record(
        "run",
        json!({
            "host": host, "run_id": run.run_id, "state": state(run.state()).0, "user": run.user,
            "started_unix_ms": run.started_unix_ms, "finished_unix_ms": run.finished_unix_ms,
            "commit": apply(run).map(|apply| &apply.commit), "bundle": apply(run).map(|apply| &apply.bundle),
            "what": what(run), "resource": run.resource, "summary": run.summary.as_ref().map(json_summary),
        }),
    )
}

fn json_status(output: &Output, host: &str, reply: &pb::StatusReply) -> Result<()> {
    let last = reply.last_apply.as_ref().map(|apply| {
        json!({ "run_id": apply.run_id, "state": apply.state, "finished_unix_ms": apply.finished_unix_ms })
    });
    let recorder = reply.recorder.as_ref().map(info::recorder_object);
    output.record(
        "status",
        json!({
            "host": host, "host_id": reply.host_id, "fleet_id": reply.fleet_id, "hostname": reply.hostname,
            "agent_version": reply.agent_version, "boot_id": reply.boot_id, "uptime_s": reply.uptime_s,
            "commit": reply.commit, "bundle": reply.bundle, "active_run": reply.active_run, "last_apply": last, "recorder": recorder,
            "disk_free_bytes": reply.disk_free_bytes, "memory_total_bytes": reply.memory_total_bytes,
            "memory_available_bytes": reply.memory_available_bytes, "degraded": reply.degraded,
        }),
    )
}

pub(super) fn since(since_unix_ms: i64, now: Timestamp) -> String {
    let age_ms = u64::try_from(now.as_millisecond().saturating_sub(since_unix_ms)).unwrap_or_default();
    age(age_ms)
}

/// Prints left-aligned columns of escaped cells; the last column is not cut.
pub(super) fn print<const N: usize>(output: &Output, head: [&str; N], rows: Vec<[String; N]>) -> Result<()> {
    let rows: Vec<[String; N]> = rows.into_iter().map(|row| row.map(|cell| printable(&cell))).collect();
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or_default()
    });
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        output.line(padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    line(head)?;
    rows.iter().try_for_each(|row| line(std::array::from_fn(|column| row[column].as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{render::Format, render::tests::pages};

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    #[test]
    fn status_prints_problems_below_the_table() {
        let (output, data, talk) = pages(Format::Text);
        let reply = pb::StatusReply {
            agent_version: "0.1.0".into(),
            uptime_s: 190,
            commit: "fedcba987654+".into(),
            bundle: "0123456789abcdef".into(),
            active_run: Some("r-2".into()),
            last_apply: Some(pb::LastApply {
                run_id: "r-1".into(),
                state: "changed".into(),
                finished_unix_ms: 1_799_999_940_000,
            }),
            degraded: vec!["disk is nearly full".into()],
            memory_total_bytes: 512 << 20,
            memory_available_bytes: 400 << 20,
            recorder: Some(pb::Recorder {
                running: true,
                collector: "bpf".into(),
                bytes: 43 << 20,
                missing: vec!["kernel log".into()],
                cpu_ppm: 2_130,
                dropped: 3,
                ..pb::Recorder::default()
            }),
            ..pb::StatusReply::default()
        };
        status(&output, &[("db-1".into(), reply.clone())], now()).unwrap();
        insta::assert_snapshot!(data.text(), @r"
        NAME  UP     LAST APPLY         COMMIT         BUNDLE        MEMORY              RECORD             AGENT
        db-1  3 min  changed 1 min ago  fedcba987654+  0123456789ab  112 MiB of 512 MiB  bpf 0.21 % 43 MiB  0.1.0
        ");
        insta::assert_snapshot!(talk.text(), @r"
        db-1: run r-2 is in progress
        db-1: recorder bpf, without: kernel log
        db-1: dropped samples: 3
        db-1: disk is nearly full
        ");
        let (output, data, _) = pages(Format::Json);
        status(&output, &[("db-1".into(), reply)], now()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&data.text()).unwrap();
        assert_eq!((&value["type"], &value["last_apply"]["state"]), (&json!("status"), &json!("changed")));
    }

    #[test]
    fn stopped_hosts_are_counted() {
        let (output, _, talk) = pages(Format::Text);
        (0..3).for_each(|stopped| left_out(&output, stopped));
        insta::assert_snapshot!(talk.text(), @r"
        1 stopped host is left out; `ctl hosts` shows it
        2 stopped hosts are left out; `ctl hosts` shows them
        ");
    }

    #[test]
    fn runs_show_user_time_and_command() {
        use pb::start_request::What;
        let run = |id: &str, what, finished_unix_ms| pb::Run {
            run_id: id.into(),
            state: pb::RunState::Running.into(),
            user: "alice".into(),
            started_unix_ms: 1_800_000_000_000,
            finished_unix_ms,
            request: Some(pb::StartRequest { what: Some(what), ..pb::StartRequest::default() }),
            ..pb::Run::default()
        };
        let apply = pb::Apply {
            bundle: "0123456789abcdef".into(),
            commit: "fedcba987654".into(),
            role: "db".into(),
            ..pb::Apply::default()
        };
        let plan = pb::Apply { noop: true, ..apply.clone() };
        let plan = pb::Run {
            state: pb::RunState::Succeeded.into(),
            summary: Some(pb::Summary { pending: 3, ..pb::Summary::default() }),
            ..run("db-1-npqrst", What::Apply(plan), 1_800_000_004_000)
        };
        let argv = vec!["echo".into(), "a\nb".into()];
        let command = pb::Command { argv, ..pb::Command::default() };
        let all = [
            ("db-1".to_owned(), run("db-1-abcdef", What::Apply(apply), 0)),
            ("db-1".to_owned(), run("db-1-ghjkmn", What::Command(command), 1_800_000_002_100)),
            ("db-1".to_owned(), plan),
        ];
        let (output, data, _) = pages(Format::Text);
        runs(&output, &all, &TimeZone::UTC).unwrap();
        insta::assert_snapshot!(data.text(), @r"
        RUN          STATE      USER   STARTED              TOOK   COMMIT        BUNDLE        WHAT
        db-1-abcdef  running    alice  2027-01-15 08:00:00         fedcba987654  0123456789ab  apply as db
        db-1-ghjkmn  running    alice  2027-01-15 08:00:00  2.1 s  -             -             echo a b
        db-1-npqrst  succeeded  alice  2027-01-15 08:00:00  4.0 s  fedcba987654  0123456789ab  plan as db: 3 would change
        ");
    }
}
