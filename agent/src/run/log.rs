//! Interprets Puppet's log while Puppet writes it: one JSON object a line (`--logdest FILE.jsonl`), with `--evaltrace`.
//!
//! Evaltrace lines become progress. Messages between the start and the end of a resource show whether it changed or
//! failed. That is a quick first answer; the report is authoritative (see [`super::report`]), except for refreshes that
//! Puppet skips under noop: only the log has those.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::Path,
};

use proto::pb::{self, ResourceStatus, event::What};
use serde::Deserialize;

use super::origin::Origin;

/// How the message about a refresh begins that Puppet skips: the resource is under noop, or all resources that notified
/// it are (Puppet::Transaction::EventManager#process_noop_events).
const SKIPPED_REFRESH: &str = "Would have triggered '";
/// How the message about a change ends that Puppet skips: the resource is under noop
/// (Puppet::Transaction::ResourceHarness#noop).
const SKIPPED_CHANGE: &str = " (noop)";

/// One line, as Puppet writes it; unknown keys are ignored.
#[derive(Debug, Deserialize)]
struct Line {
    level: String,
    message: String,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    file: Option<String>,
    #[serde(default)]
    line: Option<u32>,
}

/// The resource that Puppet is evaluating.
#[derive(Debug)]
struct Current {
    path: String,
    resource: pb::Resource,
    /// Whether the resource has its status from a skipped refresh.
    only_refresh: bool,
}

/// Interprets the lines of Puppet's log.
#[derive(Debug)]
pub struct Interpreter {
    origin: Origin,
    noop: bool,
    current: Option<Current>,
    told: HashMap<String, ResourceStatus>,
    refreshes: Vec<pb::Resource>,
    last_error: Option<pb::Log>,
}

impl Interpreter {
    /// An interpreter for one run; with `noop`, changes count as pending.
    pub fn new(origin: Origin, noop: bool) -> Self {
        Self { origin, noop, current: None, told: HashMap::new(), refreshes: Vec::new(), last_error: None }
    }

    /// The event for one line. A line that is not JSON becomes a log event.
    pub fn line(&mut self, bytes: &[u8]) -> Option<What> {
        if bytes.trim_ascii().is_empty() {
            return None;
        }
        let Ok(line) = serde_json::from_slice::<Line>(bytes) else {
            let message = String::from_utf8_lossy(bytes).into_owned();
            return Some(What::Log(pb::Log { level: "notice".into(), message, ..pb::Log::default() }));
        };
        let source = line.source.clone().unwrap_or_default();
        if line.level == "info" && line.message.starts_with("Starting to evaluate the resource") {
            return self.started(&line, source);
        }
        if line.level == "info" && line.message.starts_with("Evaluated in ") {
            return self.evaluated(&source);
        }
        self.attribute(&line, &source);
        let log = pb::Log {
            level: line.level,
            message: self.origin.shorten(&line.message),
            source,
            file: line.file.map(|file| self.origin.shorten(&file)).unwrap_or_default(),
            line: line.line.unwrap_or_default(),
        };
        if is_error(&log.level) && log.source != "Facter" {
            self.last_error = Some(log.clone());
        }
        Some(What::Log(log))
    }

    /// Whether this status of the resource was already reported.
    pub fn has_told(&self, resource: &pb::Resource) -> bool {
        self.told.get(&resource.resource) == Some(&resource.status())
    }

    /// The resources with a skipped refresh and without any other change or failure. Puppet's report has no event for
    /// them.
    pub fn refreshes(&self) -> &[pb::Resource] {
        &self.refreshes
    }

    /// The last error in the log: the reason if a catalog did not compile.
    pub fn last_error(&self) -> Option<&pb::Log> {
        self.last_error.as_ref()
    }

    /// The resource that Puppet is evaluating, such as `Exec[migrate]`.
    pub fn current(&self) -> Option<&str> {
        self.current.as_ref().map(|current| current.resource.resource.as_str())
    }

    fn started(&mut self, line: &Line, path: String) -> Option<What> {
        // Puppet also evaluates classes, stages and defined types, at their start and end, but they do nothing.
        // Puppet names them without a path.
        let name = resource_of(&path).filter(|name| path.starts_with('/') && !is_built_in(name));
        let Some(name) = name.map(str::to_owned) else {
            self.current = None;
            return None;
        };
        let (index, total) = counters(&line.message);
        let resource = pb::Resource {
            resource: name.clone(),
            file: line.file.as_deref().map(|file| self.origin.shorten(file)).unwrap_or_default(),
            line: line.line.unwrap_or_default(),
            ..pb::Resource::default()
        };
        self.current = Some(Current { path, resource, only_refresh: false });
        Some(What::Progress(pb::Progress { index, total, resource: name }))
    }

    fn evaluated(&mut self, path: &str) -> Option<What> {
        let Current { resource, only_refresh, .. } = self.current.take_if(|current| current.path == path)?;
        if resource.status() == ResourceStatus::Unspecified {
            return None;
        }
        if only_refresh {
            self.refreshes.push(resource.clone());
        }
        self.told.insert(resource.resource.clone(), resource.status());
        Some(What::Resource(resource))
    }

    /// A notice below the resource's path is a changed property (or the output of a command), an error at or below
    /// the path is a failure. Later messages do not undo a failure. A notice at the path itself may be a skipped refresh;
    /// it counts only if the resource has no status yet.
    fn attribute(&mut self, line: &Line, source: &str) {
        let Some(current) = &mut self.current else { return };
        let Some(below) = source.strip_prefix(current.path.as_str()) else { return };
        let before = current.resource.status();
        if before == ResourceStatus::Failed || !(below.is_empty() || below.starts_with('/')) {
            return;
        }
        let is_notice = line.level == "notice";
        let is_refresh = is_notice && below.is_empty() && line.message.starts_with(SKIPPED_REFRESH);
        let status = if is_error(&line.level) {
            ResourceStatus::Failed
        } else if is_refresh && before == ResourceStatus::Unspecified {
            ResourceStatus::Pending
        } else if is_notice && !below.is_empty() {
            let is_skipped = self.noop || line.message.ends_with(SKIPPED_CHANGE);
            if is_skipped { ResourceStatus::Pending } else { ResourceStatus::Changed }
        } else {
            return;
        };
        current.resource.set_status(status);
        current.resource.message = self.origin.shorten(&line.message);
        current.only_refresh = is_refresh;
    }
}

/// Resources that Puppet adds to every catalog.
pub(super) fn is_built_in(resource: &str) -> bool {
    const NAMES: [&str; 7] = [
        "Schedule[puppet]",
        "Schedule[hourly]",
        "Schedule[daily]",
        "Schedule[weekly]",
        "Schedule[monthly]",
        "Schedule[never]",
        "Filebucket[puppet]",
    ];
    NAMES.contains(&resource)
}

fn is_error(level: &str) -> bool {
    matches!(level, "err" | "alert" | "emerg" | "crit")
}

/// `Starting to evaluate the resource (5 of 16)` → (5, 16).
fn counters(message: &str) -> (u32, u32) {
    let inside = message.rsplit_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    let numbers = inside.and_then(|inside| inside.split_once(" of "));
    let parsed = numbers.and_then(|(index, total)| Some((index.parse().ok()?, total.parse().ok()?)));
    parsed.unwrap_or_default()
}

/// The last resource of a containment path: `/Stage[main]/Profile::Db/Exec[x]` → `Exec[x]`.
///
/// Titles may contain slashes and brackets, so parsing goes from left to right, each title up to its closing bracket.
fn resource_of(path: &str) -> Option<&str> {
    let mut rest = path.strip_prefix('/').unwrap_or(path);
    loop {
        let end = segment_end(rest);
        let Some(next) = rest.get(end + 1..).filter(|next| !next.is_empty()) else {
            return (!rest.is_empty()).then_some(rest);
        };
        rest = next;
    }
}

/// The end of a containment path's first segment: the `/` after its name or title.
fn segment_end(path: &str) -> usize {
    let name_end = path.find(['[', '/']).unwrap_or(path.len());
    if !path[name_end..].starts_with('[') {
        return name_end;
    }
    let mut depth = 0_usize;
    for (at, byte) in path.bytes().enumerate().skip(name_end) {
        match byte {
            b'[' => depth += 1,
            b']' => depth = depth.saturating_sub(1),
            b'/' if depth == 0 => return at,
            _ => {}
        }
    }
    path.len()
}

/// Reads a growing file line by line.
#[derive(Debug, Default)]
pub struct Tail {
    file: Option<File>,
    pending: Vec<u8>,
}

impl Tail {
    /// The lines added since the last call; none if there is no file yet.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn lines(&mut self, path: &Path) -> io::Result<Vec<Vec<u8>>> {
        if self.file.is_none() {
            match File::open(path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            }
        }
        if let Some(file) = &mut self.file {
            file.read_to_end(&mut self.pending)?;
        }
        let Some(end) = self.pending.iter().rposition(|&byte| byte == b'\n') else { return Ok(Vec::new()) };
        let rest = self.pending.split_off(end + 1);
        let whole = std::mem::replace(&mut self.pending, rest);
        Ok(whole.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn interpret(case: &str, noop: bool) -> (Interpreter, Vec<What>) {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/puppet-7.23");
        let origin = Origin::new([format!("/var/lib/magpie/runs/{case}/environments/production")]);
        let mut interpreter = Interpreter::new(origin, noop);
        let lines = Tail::default().lines(&fixtures.join(case).join("log.jsonl")).unwrap();
        assert!(!lines.is_empty());
        let whats = lines.iter().filter_map(|line| interpreter.line(line)).collect();
        (interpreter, whats)
    }

    fn resources(whats: &[What]) -> Vec<(String, ResourceStatus, u32)> {
        let resource = |what: &What| match what {
            What::Resource(r) => Some((r.resource.clone(), r.status(), r.line)),
            _ => None,
        };
        whats.iter().filter_map(resource).collect()
    }

    #[test]
    fn progress_names_the_resource_and_hides_built_in_ones() {
        let (_, whats) = interpret("changed", false);
        let progress: Vec<_> = whats
            .iter()
            .filter_map(|what| match what {
                What::Progress(p) => Some((p.index, p.total, p.resource.as_str())),
                _ => None,
            })
            .collect();
        assert_eq!(
            progress,
            [
                (7, 22, "File[/tmp]"),
                (8, 22, "File[/tmp/fx]"),
                (9, 22, "File[/tmp/fx/motd]"),
                (10, 22, "Exec[reload]"),
                (12, 22, "Exec[/bin/sh -c '[ -d /tmp ] && echo one[1]/a']"),
            ]
        );
    }

    #[test]
    fn changes_and_failures_are_reported_as_they_happen() {
        let (_, whats) = interpret("failed", false);
        assert_eq!(
            resources(&whats),
            [
                ("File[/tmp/fx2]".to_owned(), ResourceStatus::Changed, 3),
                ("Exec[migrate]".to_owned(), ResourceStatus::Failed, 6),
                ("Exec[restart]".to_owned(), ResourceStatus::Failed, 13),
                ("File[/proc/nope/x]".to_owned(), ResourceStatus::Failed, 18),
            ]
        );
        let What::Resource(migrate) =
            whats.iter().find(|what| matches!(what, What::Resource(r) if r.line == 6)).unwrap()
        else {
            unreachable!()
        };
        assert!(migrate.message.contains("returned 3"), "{}", migrate.message);
        assert_eq!(migrate.file, "modules/profile/manifests/base.pp");
    }

    #[test]
    fn under_noop_changes_are_pending() {
        let (_, whats) = interpret("noop", true);
        let resources = resources(&whats);
        assert_eq!(resources.len(), 4);
        assert!(resources.iter().all(|r| r.1 == ResourceStatus::Pending), "{resources:?}");
    }

    #[test]
    fn a_refresh_that_noop_skips_is_pending_but_not_one_of_a_class_or_a_defined_type() {
        let (interpreter, whats) = interpret("noop", true);
        let [reload] = interpreter.refreshes() else { panic!("{:?}", interpreter.refreshes()) };
        let wanted = pb::Resource {
            resource: "Exec[reload]".into(),
            status: ResourceStatus::Pending.into(),
            file: "modules/profile/manifests/base.pp".into(),
            line: 13,
            message: "Would have triggered 'refresh' from 1 event".into(),
        };
        assert_eq!(*reload, wanted);
        assert!(interpreter.has_told(reload) && whats.contains(&What::Resource(wanted)));
    }

    /// Resources of a real apply that the code itself sets to noop, and those that they notify.
    #[test]
    fn a_refresh_counts_only_where_nothing_else_happened() {
        let mut interpreter = Interpreter::new(Origin::new([]), false);
        let told = |(name, messages): (&str, &[(&str, &str)])| {
            let line = |level: &str, below: &str, message: &str| {
                let source = format!("/Stage[main]/Main/{name}{below}");
                serde_json::json!({ "level": level, "message": message, "source": source }).to_string()
            };
            let begin = line("info", "", "Starting to evaluate the resource (1 of 3)");
            let messages = messages.iter().map(|(below, message)| line("notice", below, message));
            let lines =
                [begin].into_iter().chain(messages).chain([line("info", "", "Evaluated in 0.00 seconds")]);
            lines.filter_map(|line| interpreter.line(line.as_bytes())).collect::<Vec<_>>()
        };
        let refresh = ("", "Would have triggered 'refresh' from 1 event");
        let skipped = ("/ensure", "current_value 'absent', should be 'file' (noop)");
        let run = ("/returns", "executed successfully");
        let cases: [(&str, &[(&str, &str)]); 4] = [
            ("File[/marked]", &[skipped]),
            ("Exec[notified]", &[refresh]),
            ("Exec[ran]", &[run, refresh]),
            ("Exec[both]", &[skipped, refresh]),
        ];
        let whats: Vec<What> = cases.into_iter().flat_map(told).collect();
        let wanted = [
            ("File[/marked]".to_owned(), ResourceStatus::Pending, 0),
            ("Exec[notified]".to_owned(), ResourceStatus::Pending, 0),
            ("Exec[ran]".to_owned(), ResourceStatus::Changed, 0),
            ("Exec[both]".to_owned(), ResourceStatus::Pending, 0),
        ];
        assert_eq!(resources(&whats), wanted);
        let refreshed: Vec<&str> = interpreter.refreshes().iter().map(|r| r.resource.as_str()).collect();
        assert_eq!(refreshed, ["Exec[notified]"]);
    }

    #[test]
    fn a_compile_error_is_found_with_its_place() {
        for (case, line) in [("compile", 4), ("parse", 3)] {
            let (interpreter, _) = interpret(case, false);
            let error = interpreter.last_error().unwrap();
            assert_eq!((error.file.as_str(), error.line), ("modules/profile/manifests/base.pp", line));
        }
    }

    #[test]
    fn titles_may_hold_slashes_and_brackets() {
        let cases = [
            ("/Stage[main]/Profile::Db/Exec[x]", "Exec[x]"),
            ("/Stage[main]/A/A::B[one[1]/a]/Exec[/bin/sh -c '[ -d /x ]']", "Exec[/bin/sh -c '[ -d /x ]']"),
            ("/Schedule[daily]", "Schedule[daily]"),
            ("Class[Settings]", "Class[Settings]"),
            ("/Stage[main]/Main/Exec[echo ']' [a]", "Exec[echo ']' [a]"),
        ];
        for (path, resource) in cases {
            assert_eq!(resource_of(path), Some(resource), "{path}");
        }
    }

    #[test]
    fn a_line_is_returned_once_it_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut tail = Tail::default();
        assert!(tail.lines(&path).unwrap().is_empty());
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(tail.lines(&path).unwrap(), [b"one"]);
        assert!(tail.lines(&path).unwrap().is_empty());
        file.write_all(b"o\nthree\n").unwrap();
        assert_eq!(tail.lines(&path).unwrap(), [&b"two"[..], b"three"]);
    }

    proptest! {
        #[test]
        fn foreign_lines_and_paths_never_panic(bytes: Vec<u8>, path in "[a-zA-Z:/\\[\\]é]{0,40}") {
            let mut interpreter = Interpreter::new(Origin::new(["/x".to_owned()]), false);
            interpreter.line(&bytes);
            let line = serde_json::json!({
                "level": "info", "message": "Starting to evaluate the resource (1 of 2)", "source": path
            });
            interpreter.line(line.to_string().as_bytes());
            interpreter.line(line.to_string().replace("Starting to evaluate", "Evaluated in ").as_bytes());
        }
    }
}
