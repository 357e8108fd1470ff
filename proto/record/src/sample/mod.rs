//! What one look at the host and its processes says, in raw counters: rates are for readers to compute.

use std::{fmt, str::FromStr, sync::Arc};

mod host;
mod process;
mod scope;

pub use host::HostCounters;
pub(crate) use process::places_in;
pub use process::{Exit, ExitGroup, Identity, Process, places_of};
pub use scope::{Basis, OwnMemory};

/// A text that is no boot id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a boot id is not a UUID")]
pub struct NotABootId;

/// Names one boot of one kernel: `/proc/sys/kernel/random/boot_id`, random(4).
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

/// How the recorder looks at processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Collector {
    /// Files of the proc file system, kept open.
    #[default]
    Proc,
    /// A BPF program that walks the kernel's own list of tasks.
    Bpf,
}

impl Collector {
    /// How it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Proc => "proc",
            Self::Bpf => "bpf",
        }
    }

    /// The one that is called so.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Proc, Self::Bpf].into_iter().find(|collector| collector.name() == name)
    }
}

/// What the recorder can draw on and rely on beside its collector: a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources(pub u32);

impl Sources {
    /// Ends of processes, by taskstats.
    pub const EXITS: Self = Self(1);
    /// The kernel's log.
    pub const KERNEL_LOG: Self = Self(1 << 1);
    /// The kernel tells when memory becomes scarce.
    pub const PRESSURE: Self = Self(1 << 2);
    /// The recorder cannot be swapped out.
    pub const LOCKED: Self = Self(1 << 3);
    /// The recorder is not chosen when the kernel kills for want of memory.
    pub const SPARED: Self = Self(1 << 4);
    /// No source, but what to make of them: the recorder sees only a part of a machine (it is in a container), and the
    /// host's counters are the machine's.
    pub const PART_OF_MACHINE: Self = Self(1 << 5);

    /// Every source and how it is called.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::EXITS, "exits"),
        (Self::KERNEL_LOG, "kernel log"),
        (Self::PRESSURE, "pressure trigger"),
        (Self::LOCKED, "locked in memory"),
        (Self::SPARED, "spared by the OOM killer"),
    ];

    /// Whether all of `other` is in it.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// With what is in `other`.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Names of those that it has not.
    pub fn missing(self) -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().filter(move |(source, _)| !self.has(*source)).map(|(_, name)| name)
    }
}

/// One look at everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The boot that the clocks and process ids belong to.
    pub boot_id: BootId,
    /// Wall time at the beginning of the sweep, milliseconds since the Unix epoch. May step; never divide by it.
    pub wall_ms: i64,
    /// `CLOCK_BOOTTIME` at the beginning of the sweep, ns: monotonic, runs on in suspend, and has the origin of
    /// [`super::Identity::started_ns`].
    pub boottime_ns: u64,
    /// Time that should pass between samples, ms.
    pub interval_ms: u32,
    /// How much later than planned the sweep began, ns. On a struggling host this is a symptom.
    pub late_ns: u64,
    /// How long the sweep took, ns; process `i` of `n` was read about `i/n` of it after `boottime_ns`.
    pub sweep_ns: u64,
    /// When the recorder was started, ns since boot.
    pub own_start_ns: u64,
    /// CPU time that the recorder has used since it was started, all its threads, µs.
    pub own_cpu_us: u64,
    /// Samples that were taken since the recorder was started and could not be stored.
    pub dropped: u64,
    /// Processes that there are; more than `processes` holds if some could not be read.
    pub listed: u64,
    /// By how much a resident size may be wrong, KiB; 0 is exact.
    pub rss_error_kib: u64,
    /// How the processes were looked at.
    pub collector: Collector,
    /// What else the recorder could draw on.
    pub sources: Sources,
    /// Taken more often than planned, because memory was scarce.
    pub fast: bool,
    /// The host as a whole.
    pub host: HostCounters,
    /// Whole disks, in the order of the kernel.
    pub disks: Vec<Disk>,
    /// File systems on local devices. Refreshed in turn.
    pub filesystems: Vec<Filesystem>,
    /// Ends of processes that were lost since the recorder was started; absent where ends are not told.
    pub exits_lost: Option<u64>,
    /// Processes that ended since the sample before.
    pub exits: Vec<Exit>,
    /// More processes that ended since then.
    pub exit_groups: Vec<ExitGroup>,
    /// What happened since the sample before.
    pub events: Vec<Event>,
    /// All processes, in strictly ascending order of identity.
    pub processes: Vec<Process>,
}

impl Sample {
    /// CPU time that the recorder takes, on average since it was started, in millionths of one CPU.
    pub fn own_cpu_ppm(&self) -> u64 {
        let runs_us = self.boottime_ns.saturating_sub(self.own_start_ns) / 1_000;
        self.own_cpu_us.saturating_mul(1_000_000).checked_div(runs_us).unwrap_or(0)
    }
}

/// A whole disk: counters since boot (the kernel's iostats.rst).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Name of its device.
    pub name: Arc<str>,
    /// Reads completed.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes completed.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Time in which a request was under way, ms.
    pub busy_ms: u64,
    /// Time that requests have spent, all together, ms.
    pub queued_ms: u64,
}

/// How full a file system is (statvfs(3)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filesystem {
    /// Where it is mounted.
    pub mount: Arc<str>,
    /// Its size.
    pub total_bytes: u64,
    /// What an ordinary process may still write.
    pub free_bytes: u64,
    /// Files that it may hold; 0 if that is not limited.
    pub files: u64,
    /// Files that may still be made.
    pub free_files: u64,
}

/// Something that happened at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, ns since boot.
    pub at_ns: u64,
    /// Who says so.
    pub kind: EventKind,
    /// What.
    pub text: Arc<str>,
}

/// Who tells of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The kernel: lines of its log as they came. A kill for want of memory is one event with all its lines,
    /// the table of tasks among them.
    Kernel,
    /// The recorder: a sentence about itself.
    Note,
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
