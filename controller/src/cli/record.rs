//! The verbs that read the flight record.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{record::selection::Sort, render::record::log::column::Column};

/// Whose record.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Place {
    /// Host by name or id
    #[arg(value_name = "HOST")]
    pub host: Option<String>,
    /// The disk of a dead host instead: its history directory, or the root of the mounted disk
    #[arg(long, value_name = "DIR")]
    pub from_dir: Option<PathBuf>,
}

/// From when until when.
#[derive(Debug, Args)]
pub struct Window {
    /// Begin this long ago or at this time: 5m, 2h, "2026-07-13 00:12", RFC 3339, or "start" for all that there is
    /// [default: 1m for cpu-log, 1h for exits, start for oom and fetch]. The host's clock counts; with --from-dir, time ends
    /// with the newest sample
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// End this long ago or at this time [default: now]
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
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
    /// Go on with new samples as they are taken
    #[arg(long, conflicts_with_all = ["until", "from_dir", "summary"])]
    pub follow: bool,
    /// At most this many processes a sample, or in the summary; 0: no limit [default: 10; with --all: no limit]
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// All processes. Otherwise those that did nothing in the interval are left out, unless memory decides the order or
    /// processes are selected by --pid, --user, --command or --unit
    #[arg(long)]
    pub all: bool,
    /// Name the columns and their units in the first lines, as on a terminal
    #[arg(long)]
    pub header: bool,
    /// What comes first
    #[arg(long, value_enum, default_value_t = Sort::Cpu)]
    pub sort: Sort,
    /// Columns behind date and time [default: those of ps aux]
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    pub columns: Vec<Column>,
    /// Only these process ids
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Only processes of this user of the host, by name or id
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Only processes whose command line or name matches
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true)]
    pub command: Option<String>,
    /// Only processes of this systemd unit, such as nginx or session-3.scope
    #[arg(long, value_name = "UNIT")]
    pub unit: Option<String>,
    /// One line a process over the whole window, instead of one a sample
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
    /// Only those that ended by a signal or with another exit code than 0
    #[arg(long)]
    pub failed: bool,
    /// Name the columns and their units in the first line, as on a terminal
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
    /// Show the kernel's table of all processes at each kill too
    #[arg(long)]
    pub table: bool,
}

/// `ctl top`
#[derive(Debug, Args)]
pub struct Top {
    /// Whose record
    #[command(flatten)]
    pub place: Place,
    /// Begin this long ago or at this time, instead of now
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
}

/// `ctl record …`
#[derive(Debug, Subcommand)]
pub enum RecordCommand {
    /// What the record holds: range, size, gaps, losses, and what recording costs
    Info(Place),
    /// Copy the record, or a part of it, to this machine, to be read with --from-dir
    Fetch(RecordFetch),
}

/// `ctl record fetch`
#[derive(Debug, Args)]
pub struct RecordFetch {
    /// Host by name or id
    #[arg(value_name = "HOST")]
    pub host: String,
    /// Where to; made if need be. What is there already of this host's record is not fetched again
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// From when until when
    #[command(flatten)]
    pub window: Window,
}
