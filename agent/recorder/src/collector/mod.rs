//! Collectors, which read all processes: through BPF if the kernel allows it, otherwise from /proc. Both give the same
//! results, as a test checks; /proc delivers some of them later and costs ten times as much.

mod bpf;
#[cfg(test)]
mod compare;
mod proc;
#[cfg(test)]
mod tests;

use std::{io, path::Path};

use record::Collector as Kind;

use self::{bpf::Bpf, proc::Proc};
use super::table::Table;

/// Nanoseconds in a tick of the kernel's files: USER_HZ is 100 on every current architecture of Linux (time(7)).
pub(super) const TICK_NS: u64 = 10_000_000;

/// Reads all processes.
pub(super) trait Collector: std::fmt::Debug {
    /// The kind of this collector.
    fn kind(&self) -> Kind;

    /// Updates the table. Fails only if no process at all can be read; then the table is unchanged.
    fn sweep(&mut self, table: &mut Table, effort: Effort) -> io::Result<Swept>;
}

/// How much a sweep may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// Read everything.
    Full,
    /// Under memory pressure: skip files that must be opened for each reading.
    Cheap,
}

/// The result of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Swept {
    /// Number of known processes; more than the table holds if some could not be read.
    pub(super) listed: u64,
    /// Maximum error of a resident size, in KiB; 0 if all are exact.
    pub(super) rss_error_kib: u64,
}

/// The best collector that works here, and a sentence if that is not the first choice. Keeps at most `budget`
/// descriptors open. Fails only without /proc.
pub(super) fn choose(
    proc: &Path,
    page_kib: u64,
    budget: usize,
) -> io::Result<(Box<dyn Collector>, Option<String>)> {
    Ok(match Bpf::load(proc, page_kib) {
        Ok(bpf) => (Box::new(bpf), None),
        Err(reason) => {
            let sentence =
                format!("reading processes from {}, which costs more than BPF: {reason}", proc.display());
            (Box::new(Proc::open(proc, page_kib, budget)?), Some(sentence))
        }
    })
}

/// The requested collector, or the reason why it does not work here.
pub(super) fn open(kind: Kind, proc: &Path, page_kib: u64, budget: usize) -> io::Result<Box<dyn Collector>> {
    Ok(match kind {
        Kind::Bpf => Box::new(Bpf::load(proc, page_kib).map_err(io::Error::other)?),
        Kind::Proc => Box::new(Proc::open(proc, page_kib, budget)?),
    })
}

/// Maximum error of a resident size if each CPU counts separately before it adds to the total, as since Linux 6.2
/// (lib/percpu_counter.c): three counters (file, anonymous, shared), and a batch of pages on each CPU.
fn per_cpu_error_kib(cpus: u64, page_kib: u64) -> u64 {
    let batch = cpus.saturating_mul(2).max(32);
    batch.saturating_mul(cpus).saturating_mul(3 * page_kib)
}
