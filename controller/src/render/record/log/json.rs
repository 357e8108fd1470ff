//! The process log as JSON: one object per line. Sizes in bytes, durations in seconds, unknown values absent.

use jiff::Timestamp;
use serde::Serialize;

use super::cell::state;
use crate::{
    record::{
        breaks::{Break, Why},
        exits::Ending,
        log::{Entry, ProcessEntry},
        marks::RunMark,
        names::unit,
    },
    render::{JSON_VERSION, text::bytes},
};

/// One line of JSON.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    v: u32,
    #[serde(flatten)]
    kind: Kind<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Kind<'a> {
    Process(Box<ProcessLine<'a>>),
    Gap {
        from: Timestamp,
        until: Timestamp,
        length_s: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        dropped: Option<u64>,
    },
    Restart {
        from: Timestamp,
        until: Timestamp,
    },
    Step {
        from: Timestamp,
        until: Timestamp,
        by_s: f64,
    },
    Lost {
        message: &'a str,
    },
    Exit(ExitLine<'a>),
    ExitGroup {
        at: Timestamp,
        parent: u32,
        name: &'a str,
        count: u64,
        failed: u64,
        cpu_s: f64,
        peak_bytes: u64,
    },
    MoreExits {
        at: Timestamp,
        count: u64,
    },
    Kernel {
        at: Timestamp,
        text: &'a str,
    },
    OomKills {
        at: Timestamp,
        earliest_at: Timestamp,
        count: u64,
    },
    Note {
        at: Timestamp,
        text: &'a str,
    },
    Run {
        at: Timestamp,
        run_id: &'a str,
        what: &'a str,
        user: &'a str,
        state: &'a str,
    },
}

/// A process exit.
#[derive(Serialize)]
struct ExitLine<'a> {
    at: Timestamp,
    pid: u32,
    parent: u32,
    uid: u32,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
    lived_s: f64,
    cpu_user_s: f64,
    cpu_system_s: f64,
    peak_bytes: u64,
    major_faults: u64,
    read_bytes: u64,
    written_bytes: u64,
}

#[derive(Serialize)]
struct ProcessLine<'a> {
    at: Timestamp,
    boot_id: String,
    pid: u32,
    parent: u32,
    started: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    state: String,
    threads: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_percent: Option<f64>,
    cpu_user_s: f64,
    cpu_system_s: f64,
    major_faults: u64,
    virtual_bytes: u64,
    resident_bytes: u64,
    footprint_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    anon_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shmem_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swap_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    written_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_bytes_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    written_bytes_per_s: Option<f64>,
}

impl<'a> Line<'a> {
    pub(super) fn of(entry: &'a Entry<'a>) -> Self {
        let kind = match entry {
            Entry::Process(entry) => Kind::Process(Box::new(ProcessLine::of(entry))),
            Entry::Break(broken) => of_break(broken),
            Entry::Exit(at, exit) => Kind::Exit(ExitLine::of(*at, exit)),
            Entry::ExitGroup(at, group) => Kind::ExitGroup {
                at: *at,
                parent: group.parent,
                name: &group.comm,
                count: group.count,
                failed: group.failed,
                cpu_s: seconds(group.cpu_us),
                peak_bytes: bytes(group.peak_kib),
            },
            Entry::MoreExits(at, count) => Kind::MoreExits { at: *at, count: *count },
            Entry::Kernel(at, text) => Kind::Kernel { at: *at, text },
            Entry::Kills { at, earliest, count } => {
                Kind::OomKills { at: *at, earliest_at: *earliest, count: *count }
            }
            Entry::Note(at, text) => Kind::Note { at: *at, text },
            Entry::Run(mark) => of_run(mark),
        };
        Self { v: JSON_VERSION, kind }
    }
}

fn of_break(broken: &Break) -> Kind<'_> {
    match broken {
        Break::Gap { from, until, length_ms, why } => {
            let (why, dropped) = match why {
                None => (None, None),
                Some(Why::Recorder) => (Some("recorder"), None),
                Some(Why::Dropped(count)) => (Some("dropped"), Some(*count)),
                Some(Why::Late(_)) => (Some("late"), None),
            };
            Kind::Gap { from: *from, until: *until, length_s: *length_ms as f64 / 1e3, why, dropped }
        }
        Break::Restart { from, until } => Kind::Restart { from: *from, until: *until },
        Break::Step { from, until, by_ms } => {
            Kind::Step { from: *from, until: *until, by_s: *by_ms as f64 / 1e3 }
        }
        Break::Lost(message) => Kind::Lost { message },
    }
}

fn of_run(mark: &RunMark) -> Kind<'_> {
    Kind::Run {
        at: mark.at,
        run_id: &mark.run_id,
        what: &mark.what,
        user: &mark.user,
        state: mark.state.as_deref().unwrap_or("began"),
    }
}

impl<'a> ExitLine<'a> {
    fn of(at: Timestamp, exit: &'a record::Exit) -> Self {
        let ending = Ending::of(exit.status);
        Self {
            at,
            pid: exit.identity.pid,
            parent: exit.parent,
            uid: exit.uid,
            name: &exit.comm,
            exit_code: match ending {
                Ending::Code(code) => Some(code),
                Ending::Signal(_) => None,
            },
            signal: ending.signal_name(),
            lived_s: seconds(exit.lived_us),
            cpu_user_s: seconds(exit.user_us),
            cpu_system_s: seconds(exit.system_us),
            peak_bytes: bytes(exit.peak_kib),
            major_faults: exit.major_faults,
            read_bytes: exit.read_bytes,
            written_bytes: exit.written_bytes,
        }
    }
}

impl<'a> ProcessLine<'a> {
    fn of(entry: &'a ProcessEntry<'a>) -> Self {
        let (process, rates) = (entry.process, &entry.rates);
        let rounded = |value: Option<f64>| value.map(|value| (value * 100.0).round() / 100.0);
        Self {
            at: entry.at,
            boot_id: entry.boot_id.to_string(),
            pid: process.identity.pid,
            parent: process.parent,
            started: entry.started,
            user: process.user.as_deref(),
            uid: process.uid,
            name: &process.comm,
            command: process.command.as_deref(),
            cgroup: process.cgroup.as_deref(),
            unit: process.cgroup.as_deref().and_then(unit),
            state: state(process).into(),
            threads: process.threads,
            cpu_percent: rounded(rates.cpu_percent),
            memory_percent: rounded(entry.memory_percent),
            wait_percent: rounded(rates.wait_percent),
            cpu_user_s: seconds(process.user_us),
            cpu_system_s: seconds(process.system_us),
            major_faults: process.major_faults,
            virtual_bytes: bytes(process.virtual_kib),
            resident_bytes: bytes(process.resident_kib),
            footprint_bytes: bytes(process.footprint_kib()),
            anon_bytes: process.anon_kib.map(bytes),
            file_bytes: process.file_kib.map(bytes),
            shmem_bytes: process.shmem_kib.map(bytes),
            swap_bytes: process.swap_kib.map(bytes),
            read_bytes: process.read_bytes,
            written_bytes: process.written_bytes,
            read_bytes_per_s: rounded(rates.read_bytes),
            written_bytes_per_s: rounded(rates.written_bytes),
        }
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}
