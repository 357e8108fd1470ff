//! A sample: the state of the host and all its processes at one moment, as raw counters. Readers compute the rates.

use std::{fmt, str::FromStr, sync::Arc};

mod counters;
mod group;
mod host;
mod process;
mod scope;

pub use group::{Group, GroupCounters};
pub use host::HostCounters;
pub(crate) use process::places_in;
pub use process::{Exit, ExitGroup, Identity, Process, places_of};
pub use scope::{Basis, OwnMemory};

/// The text is not a boot id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a boot id is not a UUID")]
pub struct NotABootId;

/// Identifies one boot of one kernel: `/proc/sys/kernel/random/boot_id`, random(4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BootId(pub [u8; 16]);

impl FromStr for BootId {
    type Err = NotABootId;

    fn from_str(text: &str) -> Result<Self, NotABootId> {
        let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
        if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotABootId);
        }
        let number = u128::from_str_radix(&digits, 16).map_err(|_| NotABootId)?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

/// How the recorder reads processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Collector {
    /// Files of the proc file system, kept open.
    #[default]
    Proc,
    /// A BPF program that iterates over the kernel's tasks.
    Bpf,
}

impl Collector {
    /// The collector's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Proc => "proc",
            Self::Bpf => "bpf",
        }
    }

    /// The collector with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Proc, Self::Bpf].into_iter().find(|collector| collector.name() == name)
    }
}

/// What works for the recorder besides its collector: a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources(pub u32);

impl Sources {
    /// Process exits, through taskstats.
    pub const EXITS: Self = Self(1);
    /// The kernel's log.
    pub const KERNEL_LOG: Self = Self(1 << 1);
    /// The kernel reports memory pressure.
    pub const PRESSURE: Self = Self(1 << 2);
    /// The recorder cannot be swapped out.
    pub const LOCKED: Self = Self(1 << 3);
    /// The recorder is protected from the OOM killer.
    pub const SPARED: Self = Self(1 << 4);
    /// Not a source, but information about the others: the recorder sees only a part of a machine (it is in a
    /// container), and the host's counters are the machine's.
    pub const PART_OF_MACHINE: Self = Self(1 << 5);

    /// All sources with their names.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::EXITS, "exits"),
        (Self::KERNEL_LOG, "kernel log"),
        (Self::PRESSURE, "pressure trigger"),
        (Self::LOCKED, "locked in memory"),
        (Self::SPARED, "spared by the OOM killer"),
    ];

    /// Whether this set contains all of `other`.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The union with `other`.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Names of the missing sources.
    pub fn missing(self) -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().filter(move |(source, _)| !self.has(*source)).map(|(_, name)| name)
    }
}

/// The state of the host and its processes at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The boot that the clocks and process ids belong to.
    pub boot_id: BootId,
    /// Wall time at the beginning of the sweep, milliseconds since the Unix epoch. May step; never divide by it.
    pub wall_ms: i64,
    /// `CLOCK_BOOTTIME` at the beginning of the sweep, ns: monotonic, continues in suspend, and has the origin of
    /// [`super::Identity::started_ns`].
    pub boottime_ns: u64,
    /// Planned time between samples, ms.
    pub interval_ms: u32,
    /// Delay of the sweep, ns. On a struggling host, this is a symptom.
    pub late_ns: u64,
    /// Duration of the sweep, ns; process `i` of `n` was read about `i/n` of it after `boottime_ns`.
    pub sweep_ns: u64,
    /// Start of the recorder, ns since boot.
    pub own_start_ns: u64,
    /// CPU time of all the recorder's threads since its start, µs.
    pub own_cpu_us: u64,
    /// Number of samples since the recorder's start that could not be stored.
    pub dropped: u64,
    /// Number of processes; more than in `processes` if some could not be read.
    pub listed: u64,
    /// Maximum error of a resident size, KiB; 0 is exact.
    pub rss_error_kib: u64,
    /// How the processes were read.
    pub collector: Collector,
    /// What else worked for the recorder.
    pub sources: Sources,
    /// Taken more often than planned, because of memory pressure.
    pub fast: bool,
    /// The host as a whole.
    pub host: HostCounters,
    /// Whole disks, in the kernel's order.
    pub disks: Vec<Disk>,
    /// File systems on local devices and in memory. Refreshed in turn.
    pub filesystems: Vec<Filesystem>,
    /// Control groups, in order of their paths. Refreshed in turn, see [`GroupCounters::read_ns`]. Empty in records of the
    /// format's version 2.
    pub groups: Vec<Group>,
    /// Process exits lost since the recorder's start; absent if exits are not recorded.
    pub exits_lost: Option<u64>,
    /// Process exits since the previous sample.
    pub exits: Vec<Exit>,
    /// Further process exits since then, in groups.
    pub exit_groups: Vec<ExitGroup>,
    /// Events since the previous sample.
    pub events: Vec<Event>,
    /// All processes, in strictly ascending order of identity.
    pub processes: Vec<Process>,
}

impl Sample {
    /// The control group with this path.
    pub fn group(&self, path: &str) -> Option<&Group> {
        self.groups.iter().find(|group| *group.path == *path)
    }

    /// CPU use of the recorder, on average since its start, in millionths of one CPU.
    pub fn own_cpu_ppm(&self) -> u64 {
        let runs_us = self.boottime_ns.saturating_sub(self.own_start_ns) / 1_000;
        self.own_cpu_us.saturating_mul(1_000_000).checked_div(runs_us).unwrap_or(0)
    }
}

/// A whole disk: counters since boot (the kernel's iostats.rst).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Name of the device.
    pub name: Arc<str>,
    /// Reads completed.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes completed.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Time in which a request was in flight, ms.
    pub busy_ms: u64,
    /// Total time that requests have taken, ms.
    pub queued_ms: u64,
}

/// Usage of a file system (statvfs(3)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filesystem {
    /// Mount point.
    pub mount: Arc<str>,
    /// Total size, in bytes.
    pub total_bytes: u64,
    /// Bytes that an unprivileged process can still write.
    pub free_bytes: u64,
    /// Maximum number of files; 0 if there is no limit.
    pub files: u64,
    /// Number of files that can still be created.
    pub free_files: u64,
    /// Its content is in memory or swap (tmpfs). Always false in records of the format's version 2.
    pub in_memory: bool,
}

/// Something that happened at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Time of the event, ns since boot.
    pub at_ns: u64,
    /// The source of the text.
    pub kind: EventKind,
    /// The message.
    pub text: Arc<str>,
}

/// The source of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The kernel: unchanged lines of its log. An out-of-memory kill is one event with all its lines, including the
    /// table of tasks.
    Kernel,
    /// The recorder: a sentence about itself.
    Note,
    /// Tasks that wait uninterruptibly, one a line: pid, name and the kernel functions that it waits in, innermost first
    /// (proc_pid_stack(5)).
    Stacks,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_ids_are_written_as_the_kernel_writes_them() {
        let text = "0f8a4d2e-1b7c-4e5f-8a9b-0c1d2e3f4a5b";
        assert_eq!(text.parse::<BootId>().unwrap().to_string(), text);
        assert!("0f8a".parse::<BootId>().is_err());
        assert!("+f8a4d2e-1b7c-4e5f-8a9b-0c1d2e3f4a5b".parse::<BootId>().is_err());
    }

    #[test]
    fn what_is_missing_is_named() {
        let sources = Sources::EXITS.with(Sources::LOCKED).with(Sources::SPARED);
        assert_eq!(sources.missing().collect::<Vec<_>>(), ["kernel log", "pressure trigger"]);
    }
}
