//! Live output of runs, on one host or many.
//!
//! On a terminal, each host has a progress line `db-1 [37/112] Package[postgresql]`; without a terminal, progress is not
//! shown. These get a line each:
//!
//! - a resource that changed, failed, was skipped or is pending, with the diff of a file below it,
//! - a warning or error in the log, unless it is the failure of a resource: the recap explains those,
//! - `notice()` in the code,
//! - output of a command with `logoutput`.
//!
//! With `--output json`, every event is one object.
//!
//! A host may be hostile: everything kept from its events is bounded.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use indicatif::{ProgressBar, ProgressStyle};
use proto::pb::{self, ResourceStatus, RunState, event::What};
use serde_json::{Value, json};

use super::{
    Colour, Output,
    cause::cause,
    diff,
    printable::unfinished,
    text::{place, printable, short_digests, state, status},
};
use crate::error::Result;

/// Number of log messages kept for the recap of a failure.
const STORY: usize = 20;
/// Maximum length of a message that is kept or shown, in bytes.
const MESSAGE: usize = 16 << 10;
/// Maximum length of a line of output, in bytes; a longer line is split.
const LINE: usize = 64 << 10;
/// Maximum length of a diff that is shown, in bytes.
const DIFF: usize = 1 << 20;
/// Maximum number of resources whose reported status is remembered.
const TOLD: usize = 100_000;
/// Maximum number of output lines shown for a command that changed something.
const SAID: usize = 100;

/// Shows the events of runs; clones share the same screen.
#[derive(Clone)]
pub(crate) struct Live {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    output: Output,
    diffs: bool,
    many: bool,
    width: usize,
    hosts: BTreeMap<String, Host>,
}

#[derive(Default)]
struct Host {
    bar: Option<ProgressBar>,
    state: RunState,
    told: Told,
    /// Incomplete output of each [`Stream`].
    pending: [Vec<u8>; 3],
    recent: Vec<String>,
    /// Errors that may repeat the failure of the current resource, or of the whole run.
    held: Vec<pb::Log>,
    diff: Option<String>,
    said: Said,
    story: Story,
}

/// Last reported status of each resource, by a hash of its name: names may be long and many.
#[derive(Default)]
struct Told(HashMap<u64, ResourceStatus, RandomState>);

/// Output of the current resource's command.
#[derive(Default)]
struct Said {
    lines: VecDeque<String>,
    /// Number of earlier lines that were dropped.
    left_out: usize,
}

/// Source of output bytes.
#[derive(Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
    /// The installation of Puppet.
    Preparation,
}

/// What the recap needs from a host's events besides the counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Story {
    /// The first resource that failed.
    pub failure: Option<String>,
    /// Log messages from the evaluation of that resource.
    pub log: Vec<String>,
}

impl Live {
    /// A screen for these host names.
    pub(crate) fn new(output: &Output, hosts: &[String]) -> Self {
        let bar = |name: &String| {
            let shown = output.notes.terminal && !output.is_json();
            let bar = shown.then(|| output.notes.bars.add(bar(name)));
            (name.clone(), Host { bar, ..Host::default() })
        };
        let inner = Inner {
            output: output.clone(),
            diffs: true,
            many: hosts.len() > 1,
            width: hosts.iter().map(String::len).max().unwrap_or_default(),
            hosts: hosts.iter().map(bar).collect(),
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Shows or hides file diffs.
    pub(crate) fn show_diffs(&self, shown: bool) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).diffs = shown;
    }

    /// Shows one event from a host.
    ///
    /// # Errors
    /// When stdout cannot be written; a closed pipe is no error.
    pub(crate) fn event(&self, host: &str, event: &pb::Event) -> Result<()> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).event(host, event)
    }

    /// Shows a step before the run's events start, such as `pushing`.
    pub(crate) fn step(&self, host: &str, what: &str) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.hosts.get(host).and_then(|known| known.bar.as_ref()) {
            Some(bar) => bar.set_message(printable(what)),
            None => inner.output.note(&format!("{host} {what}")),
        }
    }

    /// Reports a started run and its id, for `ctl attach` and `ctl cancel`.
    ///
    /// # Errors
    /// As [`Live::event`].
    pub(crate) fn started(&self, host: &str, run_id: &str) -> Result<()> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.output.is_json() {
            return inner.output.record("started", json!({ "host": host, "run_id": run_id }));
        }
        drop(inner);
        self.step(host, &format!("run {run_id}"));
        Ok(())
    }

    /// Removes the bars; returns the story of each host.
    pub(crate) fn finish(&self) -> BTreeMap<String, Story> {
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
    if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_msg} {elapsed}") {
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
            What::State(_) => {}
            What::Progress(progress) => {
                self.release(name, std::mem::take(&mut host.held));
                host.diff = None;
                if let Some(bar) = &host.bar {
                    let pb::Progress { index, total, resource } = progress;
                    bar.set_message(format!("[{index}/{total}] {}", printable(&clipped(resource, MESSAGE))));
                }
            }
            What::Resource(resource) => return self.resource(name, host, resource),
            What::Log(log) => self.log(name, host, log),
            What::Output(output) => return self.bytes(name, host, output),
            What::Summary(summary) => {
                let mut held = std::mem::take(&mut host.held);
                held.retain(|log| !summary.failure.contains(first_line(&log.message)));
                self.release(name, held);
                return self.flush(name, host);
            }
        }
        Ok(())
    }

    /// Log messages of a resource are shown with the resource. Other errors are held back: the failure of the current
    /// resource, or of the whole run, may repeat them.
    fn log(&self, name: &str, host: &mut Host, log: &pb::Log) {
        if diff::is_diff(log) {
            host.diff = self.diffs.then(|| clipped(&log.message, DIFF));
        } else if is_notable(&log.level) && !is_repeated(log) {
            if log.level != "warning" && host.held.len() < STORY {
                host.held.push(pb::Log { message: clipped(&log.message, MESSAGE), ..log.clone() });
            } else {
                self.release(name, vec![log.clone()]);
            }
        } else if is_notice_of_code(log) {
            self.release(name, vec![log.clone()]);
        }
    }

    /// Prints log messages.
    fn release(&self, name: &str, logs: Vec<pb::Log>) {
        for log in logs {
            let place = bracketed(&place(&log.file, log.line));
            let message = printable(&clipped(&log.message, MESSAGE));
            self.output.note(&format!(
                "{name:<0$}  {1}: {message}{place}",
                self.width,
                printable(&log.level)
            ));
        }
    }

    /// Puppet's report repeats the live events: only a new or changed status is shown. The recap explains why the first
    /// resource failed.
    fn resource(&self, name: &str, host: &mut Host, resource: &pb::Resource) -> Result<()> {
        let status_now = resource.status();
        if !host.told.is_new(&resource.resource, status_now) {
            return Ok(());
        }
        let explained = status_now == ResourceStatus::Failed && {
            host.held.clear();
            host.story.failure.as_deref() == Some(clipped(&resource.resource, MESSAGE).as_str())
        };
        let message = if explained { "" } else { &cause(&resource.message) };
        let message = printable(&short_digests(&clipped(first_line(message), MESSAGE)));
        let message = if message.is_empty() { String::new() } else { format!(": {message}") };
        let place = bracketed(&place(&resource.file, resource.line));
        let (word, colour) = status(status_now);
        let before = format!("{name:<0$}  ", self.width);
        let after = format!(" {}{place}{message}", printable(&clipped(&resource.resource, MESSAGE)));
        self.output.parts(&[(Colour::None, &before), (colour, word), (Colour::None, &after)])?;
        self.diff(&host.diff.take().unwrap_or_default())?;
        let said = std::mem::take(&mut host.said);
        if status_now == ResourceStatus::Changed { self.said(&before, resource, said) } else { Ok(()) }
    }

    fn diff(&self, diff: &str) -> Result<()> {
        let before = format!("{:<1$}", "", self.width + 4);
        diff::lines(diff)
            .try_for_each(|(colour, line)| self.output.parts(&[(Colour::None, &before), (colour, &line)]))
    }

    fn said(&self, before: &str, resource: &pb::Resource, said: Said) -> Result<()> {
        if said.left_out > 0 {
            self.output.line(format_args!(
                "{before}| … {} earlier lines; `--output json` has all of them",
                said.left_out
            ))?;
        }
        // Skip "executed successfully": the resource line has it already.
        for line in said.lines.iter().filter(|line| **line != resource.message) {
            self.output.line(format_args!("{before}| {}", printable(line)))?;
        }
        Ok(())
    }

    /// A command's output is data; output from the installation of Puppet is a message. With many hosts, each line is
    /// prefixed with the host's name.
    fn bytes(&self, name: &str, host: &mut Host, output: &pb::Output) -> Result<()> {
        let stream = match (host.state, output.fd) {
            (RunState::Preparing, _) => Stream::Preparation,
            (_, 1) => Stream::Stdout,
            _ => Stream::Stderr,
        };
        let pending = &mut host.pending[stream as usize];
        pending.extend_from_slice(&output.data);
        let end = match stream {
            _ if self.is_by_line(stream) => end_of_lines(pending),
            _ if self.output.is_raw(output.fd) => pending.len(),
            _ => pending.len() - unfinished(pending),
        };
        let rest = pending.split_off(end);
        let whole = std::mem::replace(pending, rest);
        self.pass_on(name, stream, whole)
    }

    /// Prints incomplete lines and characters at the end.
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
            What::Progress(_) => {
                self.recent.clear();
                self.said = Said::default();
            }
            What::Log(log) if log.level != "info" && log.level != "debug" && !diff::is_diff(log) => {
                self.recent.push(clipped(&log.message, MESSAGE));
                let surplus = self.recent.len().saturating_sub(STORY);
                self.recent.drain(..surplus);
                if is_output(log) {
                    self.said.push(clipped(&log.message, MESSAGE));
                }
            }
            What::Resource(resource)
                if resource.status() == ResourceStatus::Failed && self.story.failure.is_none() =>
            {
                self.story.failure = Some(clipped(&resource.resource, MESSAGE));
                self.story.log = std::mem::take(&mut self.recent);
            }
            _ => {}
        }
    }
}

impl Told {
    /// Whether this status differs from the last reported one. Remembers the status, within bounds.
    fn is_new(&mut self, resource: &str, status: ResourceStatus) -> bool {
        let key = self.0.hasher().hash_one(resource);
        let known = self.0.get(&key) == Some(&status);
        if self.0.len() < TOLD || self.0.contains_key(&key) {
            self.0.insert(key, status);
        }
        !known
    }
}

impl Said {
    fn push(&mut self, line: String) {
        if self.lines.len() == SAID {
            self.lines.pop_front();
            self.left_out += 1;
        }
        self.lines.push_back(line);
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The text, cut at `limit` bytes, with the number of bytes omitted.
fn clipped(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
    format!("{}… ({} more bytes)", &text[..end], text.len() - end)
}

/// End of the last complete line. Adds a newline to a line that is too long.
fn end_of_lines(pending: &mut Vec<u8>) -> usize {
    match pending.iter().rposition(|&byte| byte == b'\n') {
        Some(end) => end + 1,
        None if pending.len() > LINE => {
            pending.push(b'\n');
            pending.len()
        }
        None => 0,
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

/// Whether a message belongs to a resource and is shown with it.
fn is_repeated(log: &pb::Log) -> bool {
    log.source.starts_with("/Stage[")
}

/// Whether a message is from `notice()` in the code, which no resource reports.
fn is_notice_of_code(log: &pb::Log) -> bool {
    log.level == "notice" && log.source.starts_with("Scope(")
}

/// Whether a message is output of a command with `logoutput` (Puppet's type `exec`).
fn is_output(log: &pb::Log) -> bool {
    log.level == "notice" && log.source.ends_with("]/returns")
}

/// One event as JSON.
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

/// A command's output, unchanged: as text if it is UTF-8, else in base64 (RFC 4648, section 4).
fn json_output(output: &pb::Output) -> Value {
    match std::str::from_utf8(&output.data) {
        Ok(text) => json!({ "fd": output.fd, "encoding": "utf-8", "data": text }),
        Err(_) => json!({ "fd": output.fd, "encoding": "base64", "data": BASE64.encode(&output.data) }),
    }
}

/// A run's summary as JSON.
pub(super) fn json_summary(s: &pb::Summary) -> Value {
    json!({
        "exit_code": s.exit_code, "total": s.total, "changed": s.changed, "failed": s.failed,
        "skipped": s.skipped, "pending": s.pending, "untagged": s.untagged, "duration_ms": s.duration_ms, "compile_ms": s.compile_ms,
        "failure": s.failure, "puppet_version": s.puppet_version, "left_running": s.left_running,
        "left": s.left, "dropped_bytes": s.dropped_bytes,
    })
}
