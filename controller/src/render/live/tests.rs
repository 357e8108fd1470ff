//! Live output, captured in memory.

use super::*;
use crate::{render::Format, render::tests::pages};

fn event(what: What) -> pb::Event {
    pb::Event { next_offset: 8, time_unix_ms: 1_000, what: Some(what) }
}

fn resource(name: &str, status: ResourceStatus, message: &str) -> What {
    What::Resource(pb::Resource {
        resource: name.into(),
        status: status.into(),
        file: "modules/profile/manifests/db.pp".into(),
        line: 6,
        message: message.into(),
    })
}

fn log(level: &str, source: &str, message: &str) -> What {
    What::Log(pb::Log {
        level: level.into(),
        source: source.into(),
        message: message.into(),
        ..pb::Log::default()
    })
}

fn failing_apply() -> Vec<What> {
    let exec = "/Stage[main]/Profile::Db/Exec[migrate]";
    let progress =
        |index, resource: &str| What::Progress(pb::Progress { index, total: 20, resource: resource.into() });
    vec![
        What::State(RunState::Running.into()),
        log("notice", "Puppet", "Compiled catalog"),
        log("warning", "Puppet", "unknown module"),
        progress(1, "File[/etc/motd]"),
        resource("File[/etc/motd]", ResourceStatus::Changed, "defined content"),
        progress(2, "Exec[migrate]"),
        log("notice", exec, "applying 3 migrations"),
        log("err", "Puppet", "returned 3"),
        log("err", exec, "change from 'notrun' to ['0'] failed: returned 3"),
        resource("Exec[migrate]", ResourceStatus::Failed, "returned 3\nbacktrace"),
        resource("File[/etc/motd]", ResourceStatus::Changed, "defined content"),
        resource("Notify[x]", ResourceStatus::Skipped, ""),
        What::Summary(pb::Summary { exit_code: 6, ..pb::Summary::default() }),
    ]
}

#[test]
fn without_a_terminal_only_notable_events_get_a_line() {
    let (output, data, talk) = pages(Format::Text);
    let live = Live::new(&output, &["db-1".into(), "web-12".into()]);
    for what in failing_apply() {
        live.event("db-1", &event(what)).unwrap();
    }
    insta::assert_snapshot!(data.text(), @r"
    db-1    changed File[/etc/motd] (modules/profile/manifests/db.pp:6): defined content
    db-1    failed Exec[migrate] (modules/profile/manifests/db.pp:6)
    db-1    skipped Notify[x] (modules/profile/manifests/db.pp:6)
    ");
    insta::assert_snapshot!(talk.text(), @"db-1    warning: unknown module");
}

#[test]
fn command_output_and_notices_are_shown() {
    let (output, data, talk) = pages(Format::Text);
    let live = Live::new(&output, &["db-1".into()]);
    let returns = "/Stage[main]/Main/Exec[migrate]/returns";
    let mut events = vec![
        log("notice", "Puppet", "Compiled catalog for db-1"),
        log("notice", "Scope(Class[main])", "hello"),
        What::Progress(pb::Progress { index: 1, total: 20, resource: "Exec[migrate]".into() }),
    ];
    events.extend((0..SAID + 7).map(|number| log("notice", returns, &format!("step {number}"))));
    events.extend([
        log("notice", returns, "10%\r20%"),
        log("notice", returns, "executed successfully"),
        resource("Exec[migrate]", ResourceStatus::Changed, "executed successfully"),
        resource("Exec[other]", ResourceStatus::Changed, "executed successfully"),
    ]);
    for what in events {
        live.event("db-1", &event(what)).unwrap();
    }
    assert_eq!(talk.text(), "db-1  notice: hello\n");
    let shown = data.text();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines[1..3],
        ["db-1  | … 9 earlier lines; `--output json` has all of them", "db-1  | step 9",]
    );
    assert!(lines[SAID].starts_with("db-1  | 10%") && !lines[SAID].contains('\r'), "{shown}");
    assert!(lines[SAID + 1].contains("Exec[other]") && lines.len() == SAID + 2, "{shown}");
}

#[test]
fn an_error_is_shown_unless_a_failure_repeats_it() {
    let failing =
        |name: &str| resource(name, ResourceStatus::Failed, "change from 'a' to 'b' failed: no\nmore");
    let progress = |index| What::Progress(pb::Progress { index, total: 9, resource: "File[/x]".into() });
    let end =
        What::Summary(pb::Summary { failure: "no such class (a.pp:1)".into(), ..pb::Summary::default() });
    let (output, data, talk) = pages(Format::Text);
    let live = Live::new(&output, &["db-1".into()]);
    let err = |message: &str| log("err", "Puppet", message);
    for what in [
        progress(1),
        err("gone"),
        failing("File[/x]"),
        progress(2),
        err("gone, too"),
        failing("File[/y]"),
        progress(3),
        err("of nobody"),
        progress(4),
        err("no such class"),
        err("the report cannot be sent"),
        end,
    ] {
        live.event("db-1", &event(what)).unwrap();
    }
    insta::assert_snapshot!(data.text(), @r"
    db-1  failed File[/x] (modules/profile/manifests/db.pp:6)
    db-1  failed File[/y] (modules/profile/manifests/db.pp:6): no
    ");
    insta::assert_snapshot!(talk.text(), @r"
    db-1  err: of nobody
    db-1  err: the report cannot be sent
    ");
}

#[test]
fn the_diff_of_a_file_is_shown_once_and_can_be_hidden() {
    let motd = "/Stage[main]/Main/File[/etc/motd]/content";
    let diff = "\n--- /etc/motd\t2026\n+++ /tmp/x\t2026\n@@ -1,2 +1,2 @@\n same\n-a\x1b[2J\r\n+\tb\n";
    let changed = || resource("File[/etc/motd]", ResourceStatus::Pending, "current_value 'a'");
    let shown = |diffs: bool, colour: bool| {
        let (mut output, data, talk) = pages(Format::Text);
        output.notes.colour = colour;
        let live = Live::new(&output, &["db-1".into()]);
        live.show_diffs(diffs);
        for what in
            [log("notice", motd, diff), log("notice", motd, "current_value 'a'"), changed(), changed()]
        {
            live.event("db-1", &event(what)).unwrap();
        }
        assert_eq!(talk.text(), "");
        data.text()
    };
    let line = "db-1  pending File[/etc/motd] (modules/profile/manifests/db.pp:6): current_value 'a'\n";
    assert_eq!(shown(false, false), line);
    let below = "        @@ -1,2 +1,2 @@\n         same\n        -a\\x1b[2J\n        +\tb\n";
    assert_eq!(shown(true, false), format!("{line}{below}"));
    assert!(shown(true, true).contains("        \x1b[31m-a\\x1b[2J\x1b[0m\n        \x1b[32m+\tb\x1b[0m\n"));
}

#[test]
fn memory_for_a_hosts_events_is_bounded() {
    let (output, data, _) = pages(Format::Text);
    let live = Live::new(&output, &["db-1".into(), "db-2".into()]);
    let endless = "x".repeat(3 * LINE);
    for what in [
        log("err", "Puppet", &endless),
        log("notice", "/Stage[main]/Main/Exec[x]", &endless),
        resource(&endless, ResourceStatus::Failed, &endless),
        What::Output(pb::Output { fd: 1, data: endless.clone().into_bytes() }),
    ] {
        for _ in 0..100 {
            live.event("db-1", &event(what.clone())).unwrap();
        }
    }
    let kept = {
        let inner = live.inner.lock().unwrap();
        let host = &inner.hosts["db-1"];
        let held: usize = host.held.iter().map(|log| log.message.len()).sum();
        host.pending.iter().map(Vec::len).sum::<usize>() + held + host.told.0.len()
    };
    assert!(kept < STORY * (MESSAGE + 40), "{kept}");
    let story = &live.finish()["db-1"];
    assert!(story.log.iter().map(String::len).sum::<usize>() < STORY * (MESSAGE + 40));
    assert!(data.text().lines().all(|line| line.len() < 4 * LINE));
    assert_eq!(clipped("aüb", 2), "a… (3 more bytes)");
    assert_eq!(clipped("aüb", 4), "aüb");
}

#[test]
fn the_story_of_a_failure_is_the_log_around_it() {
    let (output, _, _) = pages(Format::Text);
    let live = Live::new(&output, &["db-1".into()]);
    for what in failing_apply() {
        live.event("db-1", &event(what)).unwrap();
    }
    let story = &live.finish()["db-1"];
    assert_eq!(story.failure.as_deref(), Some("Exec[migrate]"));
    assert_eq!(
        story.log,
        ["applying 3 migrations", "returned 3", "change from 'notrun' to ['0'] failed: returned 3"]
    );
}

#[test]
fn json_has_every_event() {
    let (output, data, talk) = pages(Format::Json);
    let live = Live::new(&output, &["db-1".into()]);
    let events = failing_apply();
    for what in &events {
        live.event("db-1", &event(what.clone())).unwrap();
    }
    assert_eq!((data.text().lines().count(), talk.text().as_str()), (events.len(), ""));
    let failed: Value = serde_json::from_str(data.text().lines().nth(9).unwrap()).unwrap();
    assert_eq!(failed["v"], 1);
    assert_eq!((&failed["type"], &failed["host"]), (&json!("event"), &json!("db-1")));
    assert_eq!(failed["resource"]["status"], "failed");
}

#[test]
fn json_keeps_bytes_that_are_not_text() {
    let (output, data, _) = pages(Format::Json);
    let live = Live::new(&output, &["db-1".into()]);
    for bytes in [&b"a\n"[..], b"\x00\xff\xfe", "ä".as_bytes()] {
        live.event("db-1", &event(What::Output(pb::Output { fd: 1, data: bytes.to_vec() }))).unwrap();
    }
    let text = data.text();
    let outputs: Vec<Value> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["output"].clone()).collect();
    assert_eq!(outputs[0], json!({ "fd": 1, "encoding": "utf-8", "data": "a\n" }));
    assert_eq!(outputs[1], json!({ "fd": 1, "encoding": "base64", "data": "AP/+" }));
    assert_eq!(outputs[2]["data"], "ä");
}

#[test]
fn a_commands_bytes_pass_through_and_many_hosts_get_prefixes() {
    let out = |data: &[u8]| event(What::Output(pb::Output { fd: 1, data: data.to_vec() }));
    let (output, data, _) = pages(Format::Text);
    let one = Live::new(&output, &["db-1".into()]);
    one.event("db-1", &out(b"a\nb")).unwrap();
    assert_eq!(data.text(), "a\nb");
    let (output, data, _) = pages(Format::Text);
    let two = Live::new(&output, &["db-1".into(), "web-12".into()]);
    for (host, bytes) in [("db-1", &b"a\nb"[..]), ("web-12", b"c\n"), ("db-1", b"c\nrest")] {
        two.event(host, &out(bytes)).unwrap();
    }
    two.event("db-1", &event(What::Summary(pb::Summary::default()))).unwrap();
    insta::assert_snapshot!(data.text(), @r"
    db-1   | a
    web-12 | c
    db-1   | bc
    db-1   | rest
    ");
}
