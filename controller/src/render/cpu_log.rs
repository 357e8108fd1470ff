//! The log of processes, one line each, in the columns of `ps aux` behind date and time:
//!
//! ```text
//! 2011-07-13 00:12:22 www-data 26096  21.4  0.9 160732   5972 ? D Jul12    5:30 /usr/sbin/apache2 -k start
//! ```
//!
//! Made for grep: one line is one process and nothing else stands on a line, but for lines that begin with `#` and
//! say why others are missing. A value that is not known is `-`.

use std::io::{self, Write};

use jiff::{Timestamp, Zoned, tz::TimeZone};
use proto::history::Process;
use serde::Serialize;

use super::{JSON_VERSION, text::printable};
use crate::cpu_log::{Break, Entry, ProcessEntry, user_name};

/// How to write entries.
#[derive(Clone, Debug)]
pub enum Form {
    /// Aligned columns, times in this zone.
    Text(TimeZone),
    /// One JSON object a line, times in UTC.
    Json,
}

/// Names of the columns, as a `#` line; for a terminal, where nobody greps.
pub fn write_header(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "#DATE     TIME     USER         PID  %CPU %MEM     VSZ     RSS T S START    TIME COMMAND")
}

/// Writes one entry and a newline.
pub fn write(entry: &Entry, form: &Form, out: &mut dyn Write) -> io::Result<()> {
    match (form, entry) {
        (Form::Text(zone), Entry::Process(entry)) => write_process(entry, zone, out),
        (Form::Text(zone), Entry::Break(broken)) => write_break(broken, zone, out),
        (Form::Json, entry) => {
            serde_json::to_writer(&mut *out, &Line::of(entry))?;
            out.write_all(b"\n")
        }
    }
}

fn write_process(entry: &ProcessEntry, zone: &TimeZone, out: &mut dyn Write) -> io::Result<()> {
    let ProcessEntry { process, .. } = entry;
    let at = entry.at.to_zoned(zone.clone());
    writeln!(
        out,
        "{} {:<8} {:>7} {:>5} {:>4} {:>7} {:>7} ? {} {:>5} {:>7} {}",
        date_and_time(&at),
        printable(&user_name(process)),
        process.identity.pid,
        percent(entry.cpu_percent),
        percent(entry.memory_percent),
        process.virtual_kib,
        process.resident_kib,
        printable(&state(process)),
        started(entry.started, &at),
        cpu_time(process),
        command(process),
    )
}

fn write_break(broken: &Break, zone: &TimeZone, out: &mut dyn Write) -> io::Result<()> {
    let local = |timestamp: &Timestamp| date_and_time(&timestamp.to_zoned(zone.clone()));
    match broken {
        Break::Gap { from, until } => {
            writeln!(out, "# no samples between {} and {}", local(from), local(until))
        }
        Break::Restart { from, until } => {
            writeln!(out, "# the host restarted between {} and {}", local(from), local(until))
        }
        Break::Lost(sentence) => writeln!(out, "# {}", printable(sentence)),
    }
}

fn date_and_time(at: &Zoned) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.1}"))
}

fn state(process: &Process) -> String {
    char::from(process.state).to_string()
}

/// As ps does: the time on the same day, the day in the same year, else the year.
fn started(started: Timestamp, at: &Zoned) -> String {
    let started = started.to_zoned(at.time_zone().clone());
    let format = if started.date() == at.date() {
        "%H:%M"
    } else if started.year() == at.year() {
        "%b%d"
    } else {
        "%Y"
    };
    started.strftime(format).to_string()
}

/// CPU time of the process's life: minutes and seconds.
fn cpu_time(process: &Process) -> String {
    let seconds = process.cpu_ns() / 1_000_000_000;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// The command line; a name in brackets where there is none.
fn command(process: &Process) -> String {
    match &process.command {
        Some(command) => printable(command),
        None => printable(&format!("[{}]", process.comm)),
    }
}

/// A JSON line. Sizes in bytes, times in seconds, unknown values absent.
#[derive(Serialize)]
struct Line<'a> {
    v: u32,
    #[serde(flatten)]
    kind: Kind<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Kind<'a> {
    Process(Box<ProcessLine<'a>>),
    Gap { from: Timestamp, until: Timestamp },
    Restart { from: Timestamp, until: Timestamp },
    Lost { message: &'a str },
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
    state: String,
    threads: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_percent: Option<f64>,
    cpu_user_s: f64,
    cpu_system_s: f64,
    major_faults: u64,
    virtual_bytes: u64,
    resident_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    anon_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shmem_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swap_bytes: Option<u64>,
}

impl<'a> Line<'a> {
    fn of(entry: &'a Entry) -> Self {
        let kind = match entry {
            Entry::Process(entry) => Kind::Process(Box::new(ProcessLine::of(entry))),
            Entry::Break(Break::Gap { from, until }) => Kind::Gap { from: *from, until: *until },
            Entry::Break(Break::Restart { from, until }) => Kind::Restart { from: *from, until: *until },
            Entry::Break(Break::Lost(message)) => Kind::Lost { message },
        };
        Self { v: JSON_VERSION, kind }
    }
}

impl<'a> ProcessLine<'a> {
    fn of(entry: &'a ProcessEntry) -> Self {
        let process = &entry.process;
        let seconds = |ns: u64| ns as f64 / 1e9;
        let bytes = |kib: u64| kib.saturating_mul(1024);
        let rounded = |percent: f64| (percent * 100.0).round() / 100.0;
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
            state: state(process),
            threads: process.threads,
            cpu_percent: entry.cpu_percent.map(rounded),
            memory_percent: entry.memory_percent.map(rounded),
            cpu_user_s: seconds(process.user_ns),
            cpu_system_s: seconds(process.system_ns),
            major_faults: process.major_faults,
            virtual_bytes: bytes(process.virtual_kib),
            resident_bytes: bytes(process.resident_kib),
            anon_bytes: process.anon_kib.map(bytes),
            file_bytes: process.file_kib.map(bytes),
            shmem_bytes: process.shmem_kib.map(bytes),
            swap_bytes: process.swap_kib.map(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::history::{BootId, Identity};

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// A worker of the night of 13 July 2011.
    fn apache() -> ProcessEntry {
        let process = Process {
            parent: 1200,
            uid: Some(33),
            user: Some("www-data".into()),
            comm: "apache2".into(),
            command: Some("/usr/sbin/apache2 -k start".into()),
            state: b'D',
            threads: 1,
            user_ns: 310_000_000_000,
            system_ns: 20_000_000_000,
            major_faults: 77,
            virtual_kib: 160_732,
            resident_kib: 5_972,
            anon_kib: Some(4_000),
            swap_kib: Some(29_000),
            ..Process::bare(Identity { pid: 26_096, started_ns: 1 })
        };
        ProcessEntry {
            at: at("2011-07-13T00:12:22Z"),
            boot_id: BootId([0xab; 16]),
            cpu_percent: Some(21.43),
            memory_percent: Some(0.94),
            started: at("2011-07-12T23:46:40Z"),
            process,
        }
    }

    fn entries() -> Vec<Entry> {
        let thread = ProcessEntry {
            cpu_percent: None,
            memory_percent: None,
            started: at("2010-12-31T10:00:00Z"),
            process: Process {
                uid: Some(0),
                comm: "kswapd0".into(),
                state: b'S',
                ..Process::bare(Identity { pid: 30, started_ns: 0 })
            },
            ..apache()
        };
        let mut rogue =
            ProcessEntry { cpu_percent: Some(200.0), started: at("2011-07-13T00:10:00Z"), ..apache() };
        rogue.process.command = Some("evil\n2011-07-13 \u{1b}[2J\u{202e}".into());
        let (from, until) = (at("2011-07-13T00:12:22Z"), at("2011-07-13T00:13:05Z"));
        vec![
            Entry::Process(Box::new(apache())),
            Entry::Process(Box::new(thread)),
            Entry::Process(Box::new(rogue)),
            Entry::Break(Break::Gap { from, until }),
            Entry::Break(Break::Restart { from, until }),
            Entry::Break(Break::Lost("50 bytes of history cannot be read: cut short".into())),
        ]
    }

    fn rendered(form: &Form) -> String {
        let mut out = Vec::new();
        write_header(&mut out).unwrap();
        entries().iter().for_each(|entry| write(entry, form, &mut out).unwrap());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_one_line_a_process() {
        insta::assert_snapshot!(rendered(&Form::Text(TimeZone::UTC)), @r##"
        #DATE     TIME     USER         PID  %CPU %MEM     VSZ     RSS T S START    TIME COMMAND
        2011-07-13 00:12:22 www-data   26096  21.4  0.9  160732    5972 ? D Jul12    5:30 /usr/sbin/apache2 -k start
        2011-07-13 00:12:22 0             30     -    -       0       0 ? S  2010    0:00 [kswapd0]
        2011-07-13 00:12:22 www-data   26096 200.0  0.9  160732    5972 ? D 00:10    5:30 evil?2011-07-13 ?[2J?
        # no samples between 2011-07-13 00:12:22 and 2011-07-13 00:13:05
        # the host restarted between 2011-07-13 00:12:22 and 2011-07-13 00:13:05
        # 50 bytes of history cannot be read: cut short
        "##);
    }

    #[test]
    fn times_are_local() {
        let mut out = Vec::new();
        let zone = TimeZone::fixed(jiff::tz::offset(-5));
        write(&Entry::Process(Box::new(apache())), &Form::Text(zone), &mut out).unwrap();
        assert!(out.starts_with(b"2011-07-12 19:12:22 www-data "));
    }

    #[test]
    fn json_is_one_object_a_line() {
        let mut out = Vec::new();
        let mut entries = entries();
        entries.remove(2);
        entries.iter().for_each(|entry| write(entry, &Form::Json, &mut out).unwrap());
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r##"
        {"v":1,"type":"process","at":"2011-07-13T00:12:22Z","boot_id":"abababab-abab-abab-abab-abababababab","pid":26096,"parent":1200,"started":"2011-07-12T23:46:40Z","user":"www-data","uid":33,"name":"apache2","command":"/usr/sbin/apache2 -k start","state":"D","threads":1,"cpu_percent":21.43,"memory_percent":0.94,"cpu_user_s":310.0,"cpu_system_s":20.0,"major_faults":77,"virtual_bytes":164589568,"resident_bytes":6115328,"anon_bytes":4096000,"swap_bytes":29696000}
        {"v":1,"type":"process","at":"2011-07-13T00:12:22Z","boot_id":"abababab-abab-abab-abab-abababababab","pid":30,"parent":0,"started":"2010-12-31T10:00:00Z","uid":0,"name":"kswapd0","state":"S","threads":0,"cpu_user_s":0.0,"cpu_system_s":0.0,"major_faults":0,"virtual_bytes":0,"resident_bytes":0}
        {"v":1,"type":"gap","from":"2011-07-13T00:12:22Z","until":"2011-07-13T00:13:05Z"}
        {"v":1,"type":"restart","from":"2011-07-13T00:12:22Z","until":"2011-07-13T00:13:05Z"}
        {"v":1,"type":"lost","message":"50 bytes of history cannot be read: cut short"}
        "##);
    }
}
