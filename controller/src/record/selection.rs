//! Selection and order of processes.

use std::cmp::Ordering;

use record::{Columns, Exit, ExitGroup, Process, Sample, places_of};
use regex::Regex;

use super::{
    names::{unit, user_name},
    rates::Rates,
};
use crate::error::{Error, Result};

/// Sort key for the processes of one sample, largest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// CPU share in the interval
    #[default]
    Cpu,
    /// Resident memory
    Rss,
    /// Swapped-out memory
    Swap,
    /// Anonymous memory, resident or swapped out: the kernel cannot drop it
    #[value(alias = "memory")]
    Footprint,
    /// Bytes read and written in the interval
    Io,
}

impl Sort {
    /// Sort keys, to be ordered largest first: this key, then CPU share, then footprint. Unknown values sort last.
    pub fn key(self, process: &Process, rates: &Rates) -> [f64; 3] {
        let by = |key: Self| match key {
            Self::Cpu => cpu(rates),
            Self::Rss => process.resident_kib as f64,
            Self::Swap => process.swap_kib.map_or(-1.0, |kib| kib as f64),
            Self::Footprint => process.footprint_kib() as f64,
            Self::Io => rates.io_bytes().unwrap_or(-1.0),
        };
        [by(self), by(Self::Cpu), by(Self::Footprint)]
    }

    /// The columns of the record that the keys need.
    pub fn needs(self) -> Columns {
        let needs = Columns::FOOTPRINT.with(Columns::CPU);
        if self == Self::Io { needs.with(Columns::IO) } else { needs }
    }

    /// Compares two processes, larger first.
    pub fn compare(self, a: (&Process, &Rates), b: (&Process, &Rates)) -> Ordering {
        descending(&self.key(a.0, a.1), &self.key(b.0, b.1))
    }
}

/// Compares two lists of sort keys, larger first.
pub(super) fn descending(a: &[f64; 3], b: &[f64; 3]) -> Ordering {
    let compare = |place: usize| b[place].total_cmp(&a[place]);
    compare(0).then_with(|| compare(1)).then_with(|| compare(2))
}

/// CPU share; unknown values sort last.
fn cpu(rates: &Rates) -> f64 {
    rates.cpu_percent.unwrap_or(-1.0)
}

/// Filter for processes: all conditions must match.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// Process ids; empty: all.
    pub pids: Vec<u32>,
    /// User name, or the user id as digits.
    pub user: Option<String>,
    /// Matched against the command line and the name.
    pub command: Option<Regex>,
    /// systemd unit, with or without `.service`.
    pub unit: Option<String>,
}

impl Selection {
    /// Whether every process matches.
    pub(crate) fn is_everything(&self) -> bool {
        self.pids.is_empty() && self.user.is_none() && self.command.is_none() && self.unit.is_none()
    }

    /// As command line options: `--pid 7 --user www-data`.
    pub(crate) fn as_typed(&self) -> String {
        let pids = self.pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let parts = [
            ("--pid", (!pids.is_empty()).then_some(pids)),
            ("--user", self.user.clone()),
            ("--command", self.command.as_ref().map(|regex| format!("'{regex}'"))),
            ("--unit", self.unit.clone()),
        ];
        let typed = parts.into_iter().filter_map(|(flag, value)| Some(format!("{flag} {}", value?)));
        typed.collect::<Vec<_>>().join(" ")
    }

    /// Whether a process matches.
    pub(crate) fn admits(&self, process: &Process) -> bool {
        self.admits_pid(process.identity.pid)
            && self.user.as_deref().is_none_or(|user| self.is_user(user, process))
            && self.unit.as_deref().is_none_or(|wanted| is_unit(wanted, process))
            && self.admits_command(&process.comm, process.command.as_deref())
    }

    /// Writes the indices of the processes whose pid matches, ascending. `processes` must be in order.
    pub(crate) fn places(&self, processes: &[Process], places: &mut Vec<usize>) {
        if self.pids.is_empty() {
            places.clear();
            places.extend(0..processes.len());
            return;
        }
        places_of(processes, &self.pids, places);
    }

    /// Whether a process id matches.
    pub(crate) fn admits_pid(&self, pid: u32) -> bool {
        self.pids.is_empty() || self.pids.contains(&pid)
    }

    /// Whether a name or a command line matches.
    pub(crate) fn admits_command(&self, comm: &str, command: Option<&str>) -> bool {
        let Some(regex) = &self.command else { return true };
        command.is_some_and(|command| regex.is_match(command)) || regex.is_match(comm)
    }

    /// Whether a process exit matches. An exit has no unit and no command line.
    pub(crate) fn admits_exit(&self, exit: &Exit, sample: &Sample) -> bool {
        let is_user = |user: &str| {
            let known = sample.processes.iter().find(|process| process.uid == Some(exit.uid));
            user.parse() == Ok(exit.uid) || known.is_some_and(|process| *user_name(process) == *user)
        };
        self.admits_pid(exit.identity.pid)
            && self.unit.is_none()
            && self.user.as_deref().is_none_or(is_user)
            && self.admits_command(&exit.comm, None)
    }

    /// Whether a group of exits matches. A group has only a name.
    pub(crate) fn admits_group(&self, group: &ExitGroup) -> bool {
        let named = self.pids.is_empty() && self.unit.is_none() && self.user.is_none();
        named && self.admits_command(&group.comm, None)
    }

    fn is_user(&self, user: &str, process: &Process) -> bool {
        *user_name(process) == *user || process.uid.is_some_and(|uid| user.parse() == Ok(uid))
    }
}

fn is_unit(wanted: &str, process: &Process) -> bool {
    let Some(unit) = process.cgroup.as_deref().and_then(unit) else { return false };
    unit == wanted || unit.strip_suffix(".service") == Some(wanted)
}

/// Parses the value of `--command`.
///
/// # Errors
/// The pattern is not a regular expression; the message says why.
pub(crate) fn parse_command(pattern: &str) -> Result<Regex> {
    Regex::new(pattern).map_err(|error| {
        let error = error.to_string();
        let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        Error::invalid(format!("--command {pattern:?} is not a regular expression: {why}"))
            .hint("escape special characters with a backslash: 'a\\.out', 'c\\+\\+'")
    })
}
