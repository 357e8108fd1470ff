//! The result of a diagnosis: what ran out, who caused it, what it did, who did not cause it, and what is not known.

use std::sync::Arc;

use crate::record::source::KnownRun;

/// A group of processes: the same name in the same unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Who {
    /// Name of the processes.
    pub comm: Arc<str>,
    /// Unit or container.
    pub unit: Option<Arc<str>>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Actor {
    /// Process id.
    pub pid: u32,
    /// Its name and unit.
    pub who: Who,
    /// Its command line, if known.
    pub command: Option<Arc<str>>,
}

/// What ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Memory, possibly only within a unit's limit.
    Memory,
    /// CPU time.
    Cpu,
    /// CPU time, taken by the hypervisor.
    Steal,
    /// Capacity of a disk to transfer data.
    Io,
    /// Space of a file system.
    Disk,
    /// Processes and threads.
    Tasks,
    /// Open files.
    Files,
    /// Nothing yet: a process has left its usual use of CPU or memory.
    Nothing,
}

/// Who or what caused it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cause {
    /// Many processes, none of them remarkable: together too many for the memory.
    Pool {
        /// The processes.
        who: Who,
        /// Number before the rise and at its end.
        count: (u64, u64),
        /// Their memory before the rise and at its end, KiB.
        held_kib: (u64, u64),
        /// Usual memory of one, KiB.
        each_kib: u64,
        /// How many fit the memory beside everything else; unknown without a limit.
        fits: Option<u64>,
    },
    /// One process grew.
    Growth {
        /// The process.
        actor: Actor,
        /// Its memory before the rise and at its end, KiB.
        held_kib: (u64, u64),
        /// Duration of the rise, s.
        over_s: f64,
        /// Number and usual memory of its siblings, KiB.
        siblings: Option<(u64, u64)>,
    },
    /// Files in memory or shared memory grew.
    Shared {
        /// The unit that wrote them.
        unit: Option<Arc<str>>,
        /// The file system that grew.
        mount: Option<Arc<str>>,
        /// Size before the rise and at its end, KiB.
        held_kib: (u64, u64),
    },
    /// A process came, took much, and went.
    Spike {
        /// Name of the process.
        comm: Arc<str>,
        /// Its pid.
        pid: u32,
        /// Its maximum resident memory, KiB.
        peak_kib: u64,
    },
    /// No process grew, but file pages are read again and again.
    Thrash {
        /// Who reads most.
        reader: Option<Actor>,
        /// Bytes that it reads per second.
        read_bytes: f64,
        /// File pages read again per second.
        refaults: f64,
    },
    /// One process uses much more CPU time than before.
    Runaway {
        /// The process.
        actor: Actor,
        /// CPUs that it used before and uses now.
        cpus: (f64, f64),
        /// Number of siblings, and the CPUs that one of them uses.
        siblings: Option<(u64, f64)>,
    },
    /// A process starts many short-lived ones.
    Storm {
        /// The parent, if it was seen.
        parent: Option<Actor>,
        /// Name of most of the children.
        comm: Arc<str>,
        /// Ended children per second.
        rate: f64,
        /// CPUs that they use.
        cpus: f64,
    },
    /// Several processes of one kind use more CPU time than before.
    Many {
        /// The processes.
        who: Who,
        /// Number before and now.
        count: (u64, u64),
        /// CPUs that they used before and use now.
        cpus: (f64, f64),
    },
    /// A unit reached its own CPU limit.
    Throttled {
        /// CPUs allowed.
        cpus: Option<f64>,
        /// Share of time in which it had to stop.
        share: f64,
        /// Who uses most in the unit.
        who: Option<Who>,
    },
    /// The hypervisor gave CPU time to other guests.
    Stolen {
        /// Share of all CPU time.
        share: f64,
    },
    /// A process transfers most of the data.
    Transfer {
        /// The process.
        actor: Actor,
        /// Bytes per second read and written now.
        bytes: (f64, f64),
        /// Bytes per second before, both directions.
        before: f64,
        /// Its share of all bytes.
        share: f64,
    },
    /// A disk takes longer for its requests, without more of them.
    SlowDevice {
        /// The disk.
        disk: Arc<str>,
        /// Time of one request before and now, ms.
        request_ms: (f64, f64),
    },
    /// A file system has no space left.
    Full {
        /// The file system.
        mount: Arc<str>,
        /// Free before and now, bytes.
        free_bytes: (u64, u64),
        /// Who wrote most, and how many bytes.
        writer: Option<(Who, u64)>,
    },
    /// A limit of tasks or files was reached.
    Limit {
        /// In use and allowed.
        used: (u64, u64),
        /// Failed attempts, if counted.
        refused: Option<u64>,
        /// Who has most tasks, and how many.
        who: Option<(Who, u64)>,
    },
    /// Not attributed.
    Unknown(Why),
}

/// Why there is no culprit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It was already so when the record or the window begins.
    NoBefore,
    /// No group of processes changed enough.
    NothingChanged,
    /// No sample was taken while it happened.
    NoSamples,
}

/// How sure a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Confidence {
    /// The cause explains little, or there is nothing to compare with.
    Low,
    /// The cause explains about half.
    Medium,
    /// The cause explains most of it.
    High,
}

impl Confidence {
    /// Of a cause that explains this share of the change.
    pub(super) fn of_share(share: f64) -> Self {
        match share {
            share if share > 0.6 => Self::High,
            share if share > 0.35 => Self::Medium,
            _ => Self::Low,
        }
    }
}

/// A suspect that is not the cause.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Innocent {
    /// The processes.
    pub who: Who,
    /// Its pid, if one process is meant.
    pub pid: Option<u32>,
    /// Why it looks guilty, and why it is not.
    pub alibi: Alibi,
}

/// Why a suspect is ruled out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Alibi {
    /// It was killed, and had this size for long, KiB.
    Killed(Option<u64>),
    /// It only asked for the last page.
    Asked,
    /// It is the biggest, but did not grow, KiB.
    Constant(u64),
    /// It is the kernel's: it works for others. CPUs.
    Kernel(f64),
    /// It was as busy before. CPUs.
    Steady(f64),
}

/// What a verdict rests on, in figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stall {
    /// Kills because memory ran out.
    pub kills: u64,
    /// Time in which all tasks waited for memory, s.
    pub memory_full_s: f64,
    /// Time in which all tasks waited for I/O, s.
    pub io_full_s: f64,
    /// Time in which some task waited for a CPU, s.
    pub cpu_some_s: f64,
    /// Mean share of CPU time in use, and of it in the kernel.
    pub busy: Option<(f64, f64)>,
    /// Largest use of memory and its limit, KiB.
    pub memory_kib: Option<(u64, u64)>,
    /// Largest use of swap and its size, KiB.
    pub swap_kib: Option<(u64, u64)>,
    /// Largest shared memory, KiB.
    pub shmem_kib: Option<u64>,
    /// Longest delay of a sample, ms.
    pub late_ms: u64,
    /// What waiting tasks waited in: kernel functions, most frequent first.
    pub waited_in: Vec<(String, u64)>,
}

/// Something that the host or its record cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// Process exits are not recorded.
    Exits,
    /// The kernel's log is not recorded.
    KernelLog,
    /// The host is a part of a machine: CPU, disks and pressure of the whole machine are not its own.
    PartOfMachine,
    /// Pressure is not known.
    Pressure,
    /// Counters of units are not in the record.
    Groups,
    /// Samples are missing within the incident, s.
    Gap(u64),
}

/// One incident.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    /// What ran out.
    pub resource: Resource,
    /// The control group whose own limit it was; `None`: the whole host's.
    pub scope: Option<Arc<str>>,
    /// Begin, ms since the Unix epoch.
    pub from_ms: i64,
    /// End, ms since the Unix epoch.
    pub until_ms: i64,
    /// It still went on at the end of the window.
    pub goes_on: bool,
    /// Who or what caused it.
    pub cause: Cause,
    /// How sure that is.
    pub confidence: Confidence,
    /// What it did.
    pub stall: Stall,
    /// Who was killed.
    pub victims: Vec<(Who, Option<u32>)>,
    /// Who did not cause it.
    pub innocents: Vec<Innocent>,
    /// What follows from it and is no cause of its own.
    pub symptoms: Vec<Resource>,
    /// The run of ours that was in progress when it began, or ended shortly before.
    pub run: Option<KnownRun>,
    /// What cannot be known here.
    pub unknown: Vec<Unknown>,
}
