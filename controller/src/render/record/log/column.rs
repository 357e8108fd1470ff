//! Columns of the process log: formatted as in `ps` for people, as plain numbers for programs.

use std::borrow::Cow;

use jiff::{Zoned, tz::TimeZone};
use record::Columns;

use super::cell::{push_command, push_known, push_minutes, push_started, push_tenths, push_word, state};
use crate::{
    record::{
        log::ProcessEntry,
        names::{unit, user_name},
    },
    render::text::push_printable,
};

/// Width of the widest columns.
const WIDEST: usize = 40;

/// Padding for the widest column.
const BLANK: &str = match std::str::from_utf8(&[b' '; WIDEST]) {
    Ok(blank) => blank,
    Err(_) => panic!("blanks are UTF-8"),
};

/// A column of the process log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Column {
    /// User name, or the user id if there is no name
    User,
    /// User id
    Uid,
    /// Process id
    Pid,
    /// Process id of the parent
    Ppid,
    /// CPU share of the interval; 100 is one CPU
    Cpu,
    /// Resident memory, percent of all memory
    Mem,
    /// Address space, KiB
    Vsz,
    /// Resident memory, KiB
    Rss,
    /// Always ?: kept for compatibility with ps aux
    Tty,
    /// State: R running, S sleeping, D waiting for a disk, Z zombie
    State,
    /// Threads
    Threads,
    /// Start time
    Start,
    /// Total CPU time
    Time,
    /// Time spent waiting for a CPU, percent of the interval
    Wait,
    /// Page faults that needed the disk, per second
    Majflt,
    /// Resident anonymous memory, KiB
    Anon,
    /// Resident file pages, KiB
    File,
    /// Resident shared memory, KiB
    Shmem,
    /// Swapped-out memory, KiB
    Swap,
    /// Anonymous memory, resident or swapped out, KiB: the kernel cannot drop it
    Footprint,
    /// KiB read from storage per second; unknown for a process with children where exits are not recorded
    Read,
    /// KiB written to storage per second; unknown for a process with children where exits are not recorded
    Write,
    /// Path of the control group
    Cgroup,
    /// systemd unit
    Unit,
    /// Name of the main thread
    Comm,
    /// Command line; the name in brackets if there is none
    Command,
}

impl Column {
    /// The columns of `ps aux`.
    pub const CLASSIC: [Self; 11] = [
        Self::User,
        Self::Pid,
        Self::Cpu,
        Self::Mem,
        Self::Vsz,
        Self::Rss,
        Self::Tty,
        Self::State,
        Self::Start,
        Self::Time,
        Self::Command,
    ];

    /// The columns of the record that this column is computed from.
    pub(super) fn needs(self) -> Columns {
        match self {
            Self::User | Self::Uid => Columns::UID,
            Self::Ppid => Columns::PARENT,
            Self::Cpu | Self::Time => Columns::CPU,
            Self::Vsz => Columns::VIRTUAL,
            Self::Mem | Self::Rss => Columns::RESIDENT,
            Self::State => Columns::STATE,
            Self::Threads => Columns::THREADS,
            Self::Wait => Columns::WAIT,
            Self::Majflt => Columns::MAJOR_FAULTS,
            Self::Anon => Columns::ANON,
            Self::File => Columns::FILE,
            Self::Shmem => Columns::SHMEM,
            Self::Swap => Columns::SWAP,
            Self::Footprint => Columns::FOOTPRINT,
            // What exited children have left to a process is told by both columns and all parents.
            Self::Read | Self::Write => Columns::IO,
            // Identities and texts are always present.
            Self::Pid | Self::Tty | Self::Start | Self::Cgroup | Self::Unit | Self::Comm | Self::Command => {
                Columns::NONE
            }
        }
    }

    /// Column heading, and the key for programs.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::User => ("USER", "user"),
            Self::Uid => ("UID", "uid"),
            Self::Pid => ("PID", "pid"),
            Self::Ppid => ("PPID", "parent"),
            Self::Cpu => ("%CPU", "cpu_percent"),
            Self::Mem => ("%MEM", "memory_percent"),
            Self::Vsz => ("VSZ", "virtual_bytes"),
            Self::Rss => ("RSS", "resident_bytes"),
            Self::Tty => ("T", "tty"),
            Self::State => ("S", "state"),
            Self::Threads => ("THR", "threads"),
            Self::Start => ("START", "started"),
            Self::Time => ("TIME", "cpu_s"),
            Self::Wait => ("%WAIT", "wait_percent"),
            Self::Majflt => ("MAJFLT/s", "major_faults_per_s"),
            Self::Anon => ("ANON", "anon_bytes"),
            Self::File => ("FILE", "file_bytes"),
            Self::Shmem => ("SHMEM", "shmem_bytes"),
            Self::Swap => ("SWAP", "swap_bytes"),
            Self::Footprint => ("FOOTPR", "footprint_bytes"),
            Self::Read => ("READ/s", "read_bytes_per_s"),
            Self::Write => ("WRITE/s", "written_bytes_per_s"),
            Self::Cgroup => ("CGROUP", "cgroup"),
            Self::Unit => ("UNIT", "unit"),
            Self::Comm => ("COMM", "name"),
            Self::Command => ("COMMAND", "command"),
        }
    }

    /// Column heading.
    pub(super) fn head(self) -> &'static str {
        self.names().0
    }

    /// Unit of the values; `None` for texts and plain counts.
    pub(super) fn measure(self) -> Option<&'static str> {
        match self {
            Self::Cpu | Self::Wait => Some("of one CPU in the interval"),
            Self::Mem => Some("of all memory"),
            Self::Vsz | Self::Rss | Self::Anon | Self::File | Self::Shmem | Self::Swap | Self::Footprint => {
                Some("in KiB")
            }
            Self::Read | Self::Write => Some("in KiB/s"),
            Self::Time => Some("in CPU minutes:seconds"),
            _ => None,
        }
    }

    /// Key for programs.
    pub(super) fn key(self) -> &'static str {
        self.names().1
    }

    /// Pads the cell that starts at `start` to the column's width, except text in the last column.
    pub(super) fn pad(self, line: &mut String, start: usize, is_last: bool) {
        if is_last && self.is_text() {
            return;
        }
        let blank = &BLANK[..self.width().saturating_sub(line[start..].chars().count())];
        if self.is_text() {
            line.push_str(blank);
        } else {
            line.insert_str(start, blank);
        }
    }

    fn width(self) -> usize {
        match self {
            Self::Tty | Self::State => 1,
            Self::Mem | Self::Threads => 4,
            Self::Cpu | Self::Start | Self::Wait | Self::Uid => 5,
            Self::User | Self::Majflt => 8,
            Self::Comm => 15,
            Self::Unit => 24,
            Self::Command | Self::Cgroup => WIDEST,
            _ => 7,
        }
    }

    fn is_text(self) -> bool {
        matches!(self, Self::User | Self::Comm | Self::Unit | Self::Command | Self::Cgroup)
    }

    /// Appends the value for people. `at` is the time of the sample in the log's time zone.
    pub(super) fn push_text(self, cell: &mut String, entry: &ProcessEntry<'_>, at: &Zoned) {
        let (process, rates) = (entry.process, &entry.rates);
        match self {
            Self::User => push_printable(cell, &user_name(process)),
            Self::Uid => push_known(cell, process.uid),
            Self::Pid => push_known(cell, Some(process.identity.pid)),
            Self::Ppid => push_known(cell, Some(process.parent)),
            Self::Cpu => push_tenths(cell, rates.cpu_percent),
            Self::Mem => push_tenths(cell, entry.memory_percent),
            Self::Vsz => push_known(cell, Some(process.virtual_kib)),
            Self::Rss => push_known(cell, Some(process.resident_kib)),
            Self::Tty => cell.push('?'),
            Self::State => push_printable(cell, state(process).encode_utf8(&mut [0; 4])),
            Self::Threads => push_known(cell, Some(process.threads)),
            Self::Start => push_started(cell, entry.started, at),
            Self::Time => push_minutes(cell, process.cpu_us()),
            Self::Wait => push_tenths(cell, rates.wait_percent),
            Self::Majflt => push_tenths(cell, rates.major_faults),
            Self::Anon => push_known(cell, process.anon_kib),
            Self::File => push_known(cell, process.file_kib),
            Self::Shmem => push_known(cell, process.shmem_kib),
            Self::Swap => push_known(cell, process.swap_kib),
            Self::Footprint => push_known(cell, Some(process.footprint_kib())),
            Self::Read => push_tenths(cell, rates.read_bytes.map(|bytes| bytes / 1024.0)),
            Self::Write => push_tenths(cell, rates.written_bytes.map(|bytes| bytes / 1024.0)),
            Self::Cgroup => push_word(cell, process.cgroup.as_deref()),
            Self::Unit => push_word(cell, process.cgroup.as_deref().and_then(unit)),
            Self::Comm => push_printable(cell, &process.comm),
            Self::Command => push_command(cell, process.command.as_deref(), &process.comm),
        }
    }

    /// The value for programs: bytes, seconds, times in UTC; empty if unknown.
    pub(super) fn value<'a>(self, entry: &'a ProcessEntry<'a>) -> Cow<'a, str> {
        let (process, rates) = (entry.process, &entry.rates);
        let bytes = |kib: Option<u64>| kib.map(|kib| kib.saturating_mul(1024).to_string());
        let rounded = |value: Option<f64>| value.map(|value| ((value * 100.0).round() / 100.0).to_string());
        let number = match self {
            Self::Uid => process.uid.map(|uid| uid.to_string()),
            Self::Cpu => rounded(rates.cpu_percent),
            Self::Mem => rounded(entry.memory_percent),
            Self::Vsz => bytes(Some(process.virtual_kib)),
            Self::Rss => bytes(Some(process.resident_kib)),
            Self::Start => Some(entry.started.to_string()),
            Self::Time => Some((process.cpu_us() as f64 / 1e6).to_string()),
            Self::Wait => rounded(rates.wait_percent),
            Self::Majflt => rounded(rates.major_faults),
            Self::Anon => bytes(process.anon_kib),
            Self::File => bytes(process.file_kib),
            Self::Shmem => bytes(process.shmem_kib),
            Self::Swap => bytes(process.swap_kib),
            Self::Footprint => bytes(Some(process.footprint_kib())),
            Self::Read => rounded(rates.read_bytes),
            Self::Write => rounded(rates.written_bytes),
            Self::Cgroup => return process.cgroup.as_deref().unwrap_or_default().into(),
            Self::Unit => return process.cgroup.as_deref().and_then(unit).unwrap_or_default().into(),
            Self::Command => return process.command.as_deref().unwrap_or_default().into(),
            _ => {
                let mut cell = String::new();
                self.push_text(&mut cell, entry, &entry.at.to_zoned(TimeZone::UTC));
                return cell.into();
            }
        };
        number.unwrap_or_default().into()
    }
}
