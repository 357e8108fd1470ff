//! The recap of a run: one line per host, and for each failure where, why, and the log around it.

use proto::pb::{self, RunState};
use serde_json::json;

use super::{
    Colour, Output,
    cause::explain,
    live::{Story, json_summary},
    text::{duration, printable, state},
};
use crate::error::Result;

/// The result on one host.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    /// The host's name.
    pub host: String,
    /// The run in its final state.
    pub run: pb::Run,
    /// Summary of the bundle push, in words.
    pub push: Option<String>,
    /// From [`super::live::Live::finish`].
    pub story: Story,
}

/// Prints the recap.
///
/// # Errors
/// When stdout cannot be written; a closed pipe is no error.
pub(crate) fn recap(output: &Output, endings: &[Ending]) -> Result<()> {
    let width = endings.iter().map(|ending| ending.host.len()).max().unwrap_or_default();
    for ending in endings {
        if output.is_json() {
            record(output, ending)?;
        } else {
            text(output, ending, width)?;
        }
    }
    Ok(())
}

fn record(output: &Output, ending: &Ending) -> Result<()> {
    let summary = ending.run.summary.clone().unwrap_or_default();
    output.record(
        "recap",
        json!({
            "host": ending.host, "run_id": ending.run.run_id, "state": state(ending.run.state()).0,
            "push": ending.push, "summary": json_summary(&summary),
        }),
    )
}

fn text(output: &Output, ending: &Ending, width: usize) -> Result<()> {
    let (word, colour) = state(ending.run.state());
    let word = format!("{word:<11}");
    let summary = ending.run.summary.clone().unwrap_or_default();
    let mut parts = vec![result(ending, &summary)];
    if summary.duration_ms > 0 {
        parts.push(time(&summary));
    }
    parts.extend(ending.push.clone());
    let before = format!("{:<width$}  ", ending.host);
    let after = format!(" {}", parts.join(" · "));
    output.parts(&[(Colour::None, &before), (colour, &word), (Colour::None, &after)])?;
    let indent = width + 2;
    let (headline, lines) = explain(&summary.failure, &ending.story.log);
    if !matches!(ending.run.state(), RunState::Succeeded | RunState::Changed) && !summary.failure.is_empty() {
        output.line(format_args!("{:indent$}{}", "", printable(&headline)))?;
    }
    if let Some(left) = left(&summary) {
        output.line(format_args!("{:indent$}{left}", ""))?;
    }
    for line in lines.iter().map(|line| printable(line)) {
        output.line(format_args!("{:indent$}| {line}", ""))?;
    }
    Ok(())
}

/// A sentence about processes that the run left running; `None` if there are none.
pub(crate) fn left(summary: &pb::Summary) -> Option<String> {
    let more = if usize::try_from(summary.left_running).is_ok_and(|all| all > summary.left.len()) {
        ", …"
    } else {
        ""
    };
    let names = summary.left.iter().map(|name| printable(name)).collect::<Vec<_>>().join(", ");
    match summary.left_running {
        0 => None,
        1 => Some(format!("still running: 1 process started by the run: {names}")),
        count => Some(format!("still running: {count} processes started by the run: {names}{more}")),
    }
}

fn result(ending: &Ending, summary: &pb::Summary) -> String {
    let is_command = matches!(proto::run::what(&ending.run), Some(pb::start_request::What::Command(_)));
    if is_command {
        return format!("exit code {}", summary.exit_code);
    }
    let pb::Summary { changed, failed, skipped, pending, total, untagged, .. } = summary;
    if *untagged > 0 && untagged == total {
        return format!("none of the {total} resources has one of the tags: nothing was done");
    }
    let of = match untagged {
        0 => total.to_string(),
        _ => format!("{} with the tags ({total} in total)", total.saturating_sub(*untagged)),
    };
    let pending = if *pending > 0 { format!(", {pending} pending") } else { String::new() };
    format!("{changed} changed, {failed} failed, {skipped} skipped{pending} of {of}")
}

fn time(summary: &pb::Summary) -> String {
    let compile = match summary.compile_ms {
        0 => String::new(),
        ms => format!(" (compiled in {})", duration(ms)),
    };
    format!("{}{compile}", duration(summary.duration_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{render::Format, render::tests::pages};

    fn ending(host: &str, state: RunState, summary: pb::Summary) -> Ending {
        let run = pb::Run {
            run_id: "r-1".into(),
            state: state.into(),
            summary: Some(summary),
            ..pb::Run::default()
        };
        Ending { host: host.into(), run, push: None, story: Story::default() }
    }

    fn endings() -> Vec<Ending> {
        let summary = |duration_ms, failure: &str| pb::Summary {
            total: 12,
            duration_ms,
            compile_ms: 137,
            failure: failure.into(),
            ..pb::Summary::default()
        };
        let changed = pb::Summary { changed: 4, ..summary(2_190, "") };
        let failed = pb::Summary {
            changed: 1,
            failed: 1,
            skipped: 2,
            ..summary(
                3_000,
                "Exec[migrate] (modules/db.pp:6): change from 'notrun' to ['0'] failed: returned 3",
            )
        };
        let compile = pb::Summary {
            failure: "Could not find class ::profile::nothere (manifests/site.pp:4)".into(),
            duration_ms: 900,
            ..pb::Summary::default()
        };
        let noop = pb::Summary { pending: 3, ..summary(1_000, "") };
        let gone = |failure: &str| pb::Summary { failure: failure.into(), ..pb::Summary::default() };
        let story = Story {
            failure: Some("Exec[migrate]".into()),
            log: vec![
                "applying 3 migrations".into(),
                "returned 3".into(),
                "change from 'notrun' to ['0'] failed: returned 3".into(),
            ],
        };
        let push = Some("sent 14 KiB of 38 MiB".to_owned());
        vec![
            Ending { push, ..ending("db-1", RunState::Changed, changed) },
            Ending { story, ..ending("db-2", RunState::Failed, failed) },
            ending("db-3", RunState::Failed, compile),
            ending("web-12", RunState::Succeeded, noop),
            ending("web-13", RunState::Cancelled, gone("the run was cancelled")),
            ending(
                "tags-1",
                RunState::Changed,
                pb::Summary { changed: 1, untagged: 9, ..summary(1_000, "") },
            ),
            ending("tags-2", RunState::Succeeded, pb::Summary { untagged: 12, ..summary(1_000, "") }),
            ending("web-14", RunState::Interrupted, gone("the host rebooted before the run had ended")),
        ]
    }

    #[test]
    fn each_result_says_what_happened_and_why() {
        let (output, data, _) = pages(Format::Text);
        recap(&output, &endings()).unwrap();
        insta::assert_snapshot!(data.text(), @r"
        db-1    changed     4 changed, 0 failed, 0 skipped of 12 · 2.2 s (compiled in 137 ms) · sent 14 KiB of 38 MiB
        db-2    failed      1 changed, 1 failed, 2 skipped of 12 · 3.0 s (compiled in 137 ms)
                Exec[migrate] (modules/db.pp:6): returned 3
                | applying 3 migrations
        db-3    failed      0 changed, 0 failed, 0 skipped of 0 · 900 ms
                Could not find class ::profile::nothere (manifests/site.pp:4)
        web-12  succeeded   0 changed, 0 failed, 0 skipped, 3 pending of 12 · 1.0 s (compiled in 137 ms)
        web-13  cancelled   0 changed, 0 failed, 0 skipped of 0
                the run was cancelled
        tags-1  changed     1 changed, 0 failed, 0 skipped of 3 with the tags (12 in total) · 1.0 s (compiled in 137 ms)
        tags-2  succeeded   none of the 12 resources has one of the tags: nothing was done · 1.0 s (compiled in 137 ms)
        web-14  interrupted 0 changed, 0 failed, 0 skipped of 0
                the host rebooted before the run had ended
        ");
    }

    #[test]
    fn processes_left_running_are_counted_and_named() {
        let summary = |left_running, names: &[&str]| pb::Summary {
            left_running,
            left: names.iter().map(|&name| name.to_owned()).collect(),
            ..pb::Summary::default()
        };
        assert_eq!(left(&summary(0, &[])), None);
        let one = "still running: 1 process started by the run: nginx (12)";
        assert_eq!(left(&summary(1, &["nginx (12)"])).as_deref(), Some(one));
        let many = "still running: 3 processes started by the run: a (1), b (2), …";
        assert_eq!(left(&summary(3, &["a (1)", "b (2)"])).as_deref(), Some(many));
    }

    #[test]
    fn json_has_one_object_per_host() {
        let (output, data, _) = pages(Format::Json);
        recap(&output, &endings()[..1]).unwrap();
        let value: serde_json::Value = serde_json::from_str(&data.text()).unwrap();
        assert_eq!((&value["type"], &value["state"]), (&json!("recap"), &json!("changed")));
        assert_eq!(value["summary"]["changed"], 4);
    }
}
