//! Memory users: single processes, and all processes with the same name. Every size has its source: memory grows faster
//! than samples are taken, so a size from a sample may be far from the size at the kill.

use std::sync::Arc;

use record::oom::{self, MemoryUse};

/// A process, as far as known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named {
    /// Process id.
    pub pid: u32,
    /// Name of the process.
    pub comm: Arc<str>,
    /// User name, or the user id.
    pub user: Option<Arc<str>>,
    /// Command line.
    pub command: Option<Arc<str>>,
    /// Footprint: memory that the kernel could not drop.
    pub held: Option<Held>,
    /// Peak resident memory, KiB, if the exit is recorded.
    pub peak_kib: Option<u64>,
}

/// All processes with the same name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Holder {
    /// Name of the processes.
    pub comm: Arc<str>,
    /// Number of processes.
    pub processes: u64,
    /// Total footprint: memory that the kernel could not drop.
    pub held: Held,
    /// Swapped-out part of the footprint, KiB.
    pub swap_kib: u64,
    /// The anonymous part is unknown, so all resident memory counts: shared pages are counted once per process.
    pub counts_shared: bool,
}

/// An amount of memory and its source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Held {
    /// Amount, KiB.
    pub kib: u64,
    /// Source of the amount.
    pub origin: Origin,
}

/// Source of an amount of memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Origin {
    /// The kernel's log of the kill.
    Kernel,
    /// The newest sample before the kill.
    Sample {
        /// Age at the kill, ms; for an inferred kill, the maximum age.
        age_ms: u64,
        /// Growth up to that sample, KiB per second; negative if it shrank. Absent without an earlier sample.
        growth_kib: Option<f64>,
    },
}

/// Memory use by kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Memory {
    /// Amounts by kind.
    pub parts: MemoryUse,
    /// Source of the amounts; without growth.
    pub origin: Origin,
}

impl Held {
    /// An amount from the kernel log.
    pub(super) fn told(kib: u64) -> Self {
        Self { kib, origin: Origin::Kernel }
    }
}

/// The name with the largest total footprint in the kernel's table.
pub(super) fn of_table(kill: &oom::OomKill) -> Option<Holder> {
    let first = kill.by_name().into_iter().next()?;
    let rows = || kill.table.iter().filter(|row| row.comm == first.comm);
    Some(Holder {
        comm: first.comm.into(),
        processes: first.processes,
        held: Held::told(first.footprint_kib),
        swap_kib: rows().filter_map(|row| row.swap_kib).fold(0, u64::saturating_add),
        counts_shared: rows().any(|row| row.anon_kib.is_none()),
    })
}
