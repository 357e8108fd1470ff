//! What is happening, as it happens, on one host or many.
//!
//! On a terminal each host has a line `db-1 [37/112] Package[postgresql]` that stays where it is. Elsewhere nothing is
//! redrawn: each resource that changed, failed, is skipped or pending gets a line, so do warnings and errors of the log,
//! and progress gets one at every tenth of the way. With `--output json` every event is one object.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use indicatif::{ProgressBar, ProgressStyle};
use proto::pb::{self, ResourceStatus, RunState, event::What};
use serde_json::{Value, json};

use super::{
    Colour, Output,
    printable::unfinished,
    text::{place, printable, short_digests, state, status},
};
use crate::error::Result;

/// How many lines of log are kept for the recap of a failure.
const STORY: usize = 20;

/// Shows the events of runs; clones show on the same screen.
#[derive(Clone)]
pub struct Live {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    output: Output,
    many: bool,
    width: usize,
    hosts: BTreeMap<String, Host>,
}

#[derive(Default)]
struct Host {
    bar: Option<ProgressBar>,
    state: RunState,
    tenth: u32,
    told: HashMap<String, ResourceStatus>,
    /// What each [`Stream`] has not finished.
    pending: [Vec<u8>; 3],
    recent: Vec<String>,
    story: Story,
}

/// Where bytes come from.
#[derive(Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
    /// The installation of Puppet.
    Preparation,
}

/// What a recap needs of a host's events beyond the counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Story {
    /// The first resource that failed.
    pub failure: Option<String>,
    /// What was logged while that resource was evaluated.
    pub log: Vec<String>,
}

impl Live {
    /// A screen for these hosts, by name.
    pub fn new(output: &Output, hosts: &[String]) -> Self {
        let bar = |name: &String| {
            let shown = output.notes.terminal && !output.is_json();
            let bar = shown.then(|| output.notes.bars.add(bar(name)));
            (name.clone(), Host { bar, ..Host::default() })
        };
        let inner = Inner {
            output: output.clone(),
            many: hosts.len() > 1,
            width: hosts.iter().map(String::len).max().unwrap_or_default(),
            hosts: hosts.iter().map(bar).collect(),
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Shows one event of a host.
    ///
    /// # Errors
    /// When stdout cannot be written, other than because nobody reads it.
    pub fn event(&self, host: &str, event: &pb::Event) -> Result<()> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).event(host, event)
    }

    /// Says what is done with a host where there are no events yet, such as `pushing`.
    pub fn step(&self, host: &str, what: &str) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.hosts.get(host).and_then(|known| known.bar.as_ref()) {
            Some(bar) => bar.set_message(printable(what)),
            None => inner.output.note(&format!("{host} {what}")),
        }
    }

    /// A run has begun; its id is what `attach` and `cancel` take.
    ///
    /// # Errors
    /// As [`Live::event`].
    pub fn started(&self, host: &str, run_id: &str) -> Result<()> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.output.is_json() {
            return inner.output.record("started", json!({ "host": host, "run_id": run_id }));
        }
        drop(inner);
        self.step(host, &format!("run {run_id}"));
        Ok(())
    }

    /// Takes the bars away; returns the story of each host.
    pub fn finish(&self) -> BTreeMap<String, Story> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let hosts = std::mem::take(&mut inner.hosts);
        let stories = hosts.into_iter().map(|(name, host)| {
            if let Some(bar) = &host.bar {
                bar.finish_and_clear();
            }
            (name, host.story)
        });
        stories.collect()
    }
}

fn bar(name: &str) -> ProgressBar {
    let bar = ProgressBar::new(0).with_prefix(printable(name));
    if let Ok(style) = ProgressStyle::with_template("{prefix} [{pos}/{len}] {wide_msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}

impl Inner {
    fn event(&mut self, name: &str, event: &pb::Event) -> Result<()> {
        let Some(what) = &event.what else { return Ok(()) };
        let mut host = self.hosts.remove(name).unwrap_or_default();
        host.remember(what);
        let shown = if self.output.is_json() {
            self.output.record("event", json_event(name, event, what))
        } else {
            self.show(name, &mut host, what)
        };
        self.hosts.insert(name.to_owned(), host);
        shown
    }

    fn show(&self, name: &str, host: &mut Host, what: &What) -> Result<()> {
        match what {
            What::State(_) => Ok(()),
            What::Progress(progress) => {
                self.progress(name, host, progress);
                Ok(())
            }
            What::Resource(resource) => self.resource(name, host, resource),
            What::Log(log) => {
                if is_notable(&log.level) && !is_repeated(log) {
                    let place = bracketed(&place(&log.file, log.line));
                    self.output.note(&format!(
                        "{name:<0$}  {1}: {2}{place}",
                        self.width,
                        printable(&log.level),
                        printable(&log.message)
                    ));
                }
                Ok(())
            }
            What::Output(output) => self.bytes(name, host, output),
            What::Summary(_) => self.flush(name, host),
        }
    }

    fn progress(&self, name: &str, host: &mut Host, progress: &pb::Progress) {
        if let Some(bar) = &host.bar {
            bar.set_length(progress.total.into());
            bar.set_position(progress.index.into());
            bar.set_message(printable(&progress.resource));
            return;
        }
        let tenth = (progress.index.saturating_mul(10)).checked_div(progress.total).unwrap_or_default();
        if tenth > host.tenth {
            host.tenth = tenth;
            let pb::Progress { index, total, resource } = progress;
            let resource = printable(resource);
            self.output.note(&format!("{name:<0$}  [{index}/{total}] {resource}", self.width));
        }
    }

    /// The report repeats what was told live; only what is new or has become another thing is shown again.
    fn resource(&self, name: &str, host: &mut Host, resource: &pb::Resource) -> Result<()> {
        let status_now = resource.status();
        if host.told.insert(resource.resource.clone(), status_now) == Some(status_now) {
            return Ok(());
        }
        let (word, colour) = status(status_now);
        let message = printable(&short_digests(resource.message.lines().next().unwrap_or_default()));
        let message = if message.is_empty() { String::new() } else { format!(": {message}") };
        let place = bracketed(&place(&resource.file, resource.line));
        let before = format!("{name:<0$}  ", self.width);
        let after = format!(" {}{place}{message}", printable(&resource.resource));
        self.output.parts(&[(Colour::None, &before), (colour, word), (Colour::None, &after)])
    }

    /// A command's output is data; what is written while Puppet is being installed is talk. With many hosts each
    /// line says whose it is.
    fn bytes(&self, name: &str, host: &mut Host, output: &pb::Output) -> Result<()> {
        let stream = match (host.state, output.fd) {
            (RunState::Preparing, _) => Stream::Preparation,
            (_, 1) => Stream::Stdout,
            _ => Stream::Stderr,
        };
        let pending = &mut host.pending[stream as usize];
        pending.extend_from_slice(&output.data);
        let end = match stream {
            _ if self.is_by_line(stream) => {
                pending.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1)
            }
            _ if self.output.is_raw(output.fd) => pending.len(),
            _ => pending.len() - unfinished(pending),
        };
        let rest = pending.split_off(end);
        let whole = std::mem::replace(pending, rest);
        self.pass_on(name, stream, whole)
    }

    /// What was left without an end of line, or of a character.
    fn flush(&self, name: &str, host: &mut Host) -> Result<()> {
        for stream in [Stream::Preparation, Stream::Stdout, Stream::Stderr] {
            let mut rest = std::mem::take(&mut host.pending[stream as usize]);
            if self.is_by_line(stream) && !rest.is_empty() {
                rest.push(b'\n');
            }
            self.pass_on(name, stream, rest)?;
        }
        Ok(())
    }

    fn is_by_line(&self, stream: Stream) -> bool {
        self.many || matches!(stream, Stream::Preparation)
    }

    fn pass_on(&self, name: &str, stream: Stream, bytes: Vec<u8>) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let bytes = if self.is_by_line(stream) { prefixed(name, self.width, &bytes) } else { bytes };
        match stream {
            Stream::Stdout => self.output.pass_on(1, &bytes),
            Stream::Stderr => self.output.pass_on(2, &bytes),
            Stream::Preparation => {
                self.output.notes.page(&bytes);
                Ok(())
            }
        }
    }
}

impl Host {
    fn remember(&mut self, what: &What) {
        match what {
            What::State(state) => self.state = RunState::try_from(*state).unwrap_or_default(),
            What::Progress(_) => self.recent.clear(),
            What::Log(log) if log.level != "info" && log.level != "debug" => {
                self.recent.push(log.message.clone());
                let surplus = self.recent.len().saturating_sub(STORY);
                self.recent.drain(..surplus);
            }
            What::Resource(resource)
                if resource.status() == ResourceStatus::Failed && self.story.failure.is_none() =>
            {
                self.story.failure = Some(resource.resource.clone());
                self.story.log = std::mem::take(&mut self.recent);
            }
            _ => {}
        }
    }
}

fn prefixed(name: &str, width: usize, lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(lines.len() + 64);
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        out.extend_from_slice(format!("{name:<width$} | ").as_bytes());
        out.extend_from_slice(line);
    }
    out
}

fn bracketed(place: &str) -> String {
    if place.is_empty() { String::new() } else { format!(" ({place})") }
}

fn is_notable(level: &str) -> bool {
    matches!(level, "warning" | "err" | "alert" | "emerg" | "crit")
}

/// What is logged of a resource is shown with the resource.
fn is_repeated(log: &pb::Log) -> bool {
    log.source.starts_with("/Stage[")
}

/// One event for programs.
fn json_event(host: &str, event: &pb::Event, what: &What) -> Value {
    let (kind, body) = match what {
        What::State(number) => ("state", json!(state(RunState::try_from(*number).unwrap_or_default()).0)),
        What::Progress(p) => {
            ("progress", json!({ "index": p.index, "total": p.total, "resource": p.resource }))
        }
        What::Resource(r) => (
            "resource",
            json!({
                "resource": r.resource, "status": status(r.status()).0,
                "file": r.file, "line": r.line, "message": r.message,
            }),
        ),
        What::Log(l) => (
            "log",
            json!({
                "level": l.level, "message": l.message, "source": l.source, "file": l.file, "line": l.line,
            }),
        ),
        What::Output(o) => ("output", json_output(o)),
        What::Summary(s) => ("summary", json_summary(s)),
    };
    json!({
        "host": host, "time_unix_ms": event.time_unix_ms, "next_offset": event.next_offset, (kind): body,
    })
}

/// Bytes that a command wrote, unchanged: as text where they are UTF-8, else in base64 (RFC 4648, section 4).
fn json_output(output: &pb::Output) -> Value {
    match std::str::from_utf8(&output.data) {
        Ok(text) => json!({ "fd": output.fd, "encoding": "utf-8", "data": text }),
        Err(_) => json!({ "fd": output.fd, "encoding": "base64", "data": BASE64.encode(&output.data) }),
    }
}

/// A summary for programs.
pub(super) fn json_summary(s: &pb::Summary) -> Value {
    json!({
        "exit_code": s.exit_code, "total": s.total, "changed": s.changed, "failed": s.failed,
        "skipped": s.skipped, "pending": s.pending, "duration_ms": s.duration_ms, "compile_ms": s.compile_ms,
        "failure": s.failure, "puppet_version": s.puppet_version, "left_running": s.left_running,
        "left": s.left, "dropped_bytes": s.dropped_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::Format, render::tests::pages};

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
        let progress = |index, resource: &str| {
            What::Progress(pb::Progress { index, total: 20, resource: resource.into() })
        };
        vec![
            What::State(RunState::Running.into()),
            log("notice", "Puppet", "Compiled catalog"),
            log("warning", "Puppet", "unknown module"),
            progress(1, "File[/etc/motd]"),
            resource("File[/etc/motd]", ResourceStatus::Changed, "defined content"),
            progress(2, "Exec[migrate]"),
            log("notice", exec, "applying 3 migrations"),
            log("err", exec, "returned 3"),
            resource("Exec[migrate]", ResourceStatus::Failed, "returned 3\nbacktrace"),
            resource("File[/etc/motd]", ResourceStatus::Changed, "defined content"),
            resource("Notify[x]", ResourceStatus::Skipped, ""),
            What::Summary(pb::Summary { exit_code: 6, ..pb::Summary::default() }),
        ]
    }

    #[test]
    fn without_a_terminal_there_is_a_line_for_what_matters() {
        let (output, data, talk) = pages(Format::Text);
        let live = Live::new(&output, &["db-1".into(), "web-12".into()]);
        for what in failing_apply() {
            live.event("db-1", &event(what)).unwrap();
        }
        insta::assert_snapshot!(data.text(), @r"
        db-1    changed File[/etc/motd] (modules/profile/manifests/db.pp:6): defined content
        db-1    failed Exec[migrate] (modules/profile/manifests/db.pp:6): returned 3
        db-1    skipped Notify[x] (modules/profile/manifests/db.pp:6)
        ");
        insta::assert_snapshot!(talk.text(), @r"
        db-1    warning: unknown module
        db-1    [2/20] Exec[migrate]
        ");
    }

    #[test]
    fn the_story_of_a_failure_is_what_was_logged_around_it() {
        let (output, _, _) = pages(Format::Text);
        let live = Live::new(&output, &["db-1".into()]);
        for what in failing_apply() {
            live.event("db-1", &event(what)).unwrap();
        }
        let story = &live.finish()["db-1"];
        assert_eq!(story.failure.as_deref(), Some("Exec[migrate]"));
        assert_eq!(story.log, ["applying 3 migrations", "returned 3"]);
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
        let failed: Value = serde_json::from_str(data.text().lines().nth(8).unwrap()).unwrap();
        assert_eq!(failed["v"], 1);
        assert_eq!((&failed["type"], &failed["host"]), (&json!("event"), &json!("db-1")));
        assert_eq!(failed["resource"]["status"], "failed");
    }

    #[test]
    fn json_keeps_bytes_that_are_no_text() {
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
    fn a_commands_bytes_pass_through_and_many_hosts_are_told_apart() {
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
}
