//! Arguments of the commands that read the flight record.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{record::selection::Sort, render::record::log::column::Column};

/// Where the record is: on a host or in a directory.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Place {
    /// Host by name or id
    #[arg(value_name = "HOST")]
    pub host: Option<String>,
    /// Read the disk of a dead host instead: its history directory, or the root of the mounted disk
    #[arg(long, value_name = "DIR")]
    pub from_dir: Option<PathBuf>,
}

impl Place {
    /// As typed: `web-1`, or `--from-dir DIR`.
    pub fn as_typed(&self) -> String {
        match (&self.host, &self.from_dir) {
            (_, Some(directory)) => format!("--from-dir {}", directory.display()),
            (host, None) => host.clone().unwrap_or_default(),
        }
    }
}

/// The time window to read.
#[derive(Debug, Args)]
pub struct Window {
    /// Start this long ago or at this time: 5m, 2h, "2026-07-13 00:12", RFC 3339, or "start" for the whole record
    /// [default: 1m for cpu-log, 1h for exits, 1d for diagnose, start for oom and fetch]. Times are by the host's clock; with
    /// --from-dir, "ago" counts back from the newest sample
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// End this long ago or at this time [default: now]. A time of day that is still to come today also means now
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

/// `ctl diagnose`
#[derive(Debug, Args)]
pub struct Diagnose {
    /// Hosts by name or id
    #[arg(value_name = "HOST", required_unless_present = "from_dir", conflicts_with = "from_dir")]
    pub hosts: Vec<String>,
    /// Read the disk of a dead host instead: its history directory, or the root of the mounted disk
    #[arg(long, value_name = "DIR")]
    pub from_dir: Option<PathBuf>,
    /// From when until when
    #[command(flatten)]
    pub window: Window,
}

/// `ctl cpu-log`
#[derive(Debug, Args)]
pub struct CpuLog {
    /// Whose record
    #[command(flatten)]
    pub place: Place,
    /// From when until when
    #[command(flatten)]
    pub window: Window,
    /// Keep printing new samples as the host takes them
    #[arg(long, conflicts_with_all = ["until", "from_dir", "summary"])]
    pub follow: bool,
    /// Show at most this many processes per sample, or in the summary; 0: no limit [default: 10; with --all: no limit]
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// Show all processes. By default idle processes are left out, unless you sort by memory or select processes with
    /// --pid, --user, --command or --unit
    #[arg(long)]
    pub all: bool,
    /// Print column names and units first, even if stdout is not a terminal
    #[arg(long)]
    pub header: bool,
    /// Sort order
    #[arg(long, value_enum, default_value_t = Sort::Cpu)]
    pub sort: Sort,
    /// Columns after date and time [default: the columns of ps aux]
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    pub columns: Vec<Column>,
    /// Only these process ids
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Only processes of this user on the host, by name or id
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Only processes whose command line or name matches
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true)]
    pub command: Option<String>,
    /// Only processes in this systemd unit, such as nginx or session-3.scope
    #[arg(long, value_name = "UNIT")]
    pub unit: Option<String>,
    /// Print one line per process for the whole window, instead of one per sample. ≥ marks a lower bound: the
    /// process's exit is not recorded, or its I/O is known only in a part of the window
    #[arg(long, conflicts_with = "columns")]
    pub summary: bool,
}

/// `ctl exits`
#[derive(Debug, Args)]
pub struct Exits {
    /// Whose record
    #[command(flatten)]
    pub place: Place,
    /// From when until when
    #[command(flatten)]
    pub window: Window,
    /// Only processes killed by a signal or with a non-zero exit code
    #[arg(long)]
    pub failed: bool,
    /// Print column names and units first, even if stdout is not a terminal
    #[arg(long)]
    pub header: bool,
    /// Only processes whose command line or name matches
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true)]
    pub command: Option<String>,
}

/// `ctl oom`
#[derive(Debug, Args)]
pub struct Oom {
    /// Whose record
    #[command(flatten)]
    pub place: Place,
    /// From when until when
    #[command(flatten)]
    pub window: Window,
    /// Also print the kernel's process table for each kill
    #[arg(long)]
    pub table: bool,
}

/// `ctl top`
#[derive(Debug, Args)]
pub struct Top {
    /// Whose record
    #[command(flatten)]
    pub place: Place,
    /// Start this long ago or at this time, instead of now. It must be in the record
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
}

/// `ctl record …`
#[derive(Debug, Subcommand)]
pub enum RecordCommand {
    /// Show the record's time range, size, gaps and losses, and the cost of recording
    Info(Place),
    /// Copy the record, or part of it, to this machine, to read with --from-dir
    Fetch(RecordFetch),
}

/// `ctl record fetch`
#[derive(Debug, Args)]
pub struct RecordFetch {
    /// Host by name or id
    #[arg(value_name = "HOST")]
    pub host: String,
    /// Target directory, created if missing. Parts of this host's record that are already there are not fetched again
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// From when until when
    #[command(flatten)]
    pub window: Window,
}
