//! Who held memory: single processes, and all of one name together. Every size says how it is known: memory grows faster
//! than samples are taken, so that what a sample has may be far from what there was at the kill.

use std::sync::Arc;

use record::oom::{self, MemoryUse};

/// A process, as far as it is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Process id.
    pub pid: u32,
    /// Its name.
    pub comm: Arc<str>,
    /// Its user.
    pub user: Option<Arc<str>>,
    /// Its command line.
    pub command: Option<Arc<str>>,
    /// What it held that could not be dropped.
    pub held: Option<Held>,
    /// Most resident memory that it ever had, KiB, if its exit is recorded.
    pub peak_kib: Option<u64>,
}

/// All processes of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Holder {
    /// Their name.
    pub comm: Arc<str>,
    /// How many.
    pub processes: u64,
    /// What they held together that could not be dropped.
    pub held: Held,
    /// The part of it that was swapped out, KiB.
    pub swap_kib: u64,
    /// All resident memory counts, because the anonymous part is unknown: what they share is counted for each of them.
    pub counts_shared: bool,
}

/// An amount of memory, and how it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Held {
    /// KiB.
    pub kib: u64,
    /// How it is known.
    pub origin: Origin,
}

/// How an amount of memory is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Origin {
    /// From the kernel, which said it at the kill.
    Kernel,
    /// From the newest sample before the kill.
    Sample {
        /// How long before, ms. Of an inferred kill, at most.
        age_ms: u64,
        /// How fast it grew up to that sample, KiB a second; negative: it shrank. Absent if there is nothing to
        /// compare with.
        growth_kib: Option<f64>,
    },
}

/// What the memory was used for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// The parts.
    pub parts: MemoryUse,
    /// How they are known; no growth.
    pub origin: Origin,
}

impl Held {
    /// What the kernel said.
    pub(super) fn told(kib: u64) -> Self {
        Self { kib, origin: Origin::Kernel }
    }
}

/// The name that holds most in the kernel's table.
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
