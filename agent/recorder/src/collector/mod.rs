//! Where processes are read from: through BPF where the kernel lets us, from /proc elsewhere. Both give the same
//! answers, which a test demands; /proc gives some of them later, and costs ten times as much.

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

/// Nanoseconds in a tick of the kernel's files: USER_HZ is 100 on every architecture that Linux has today (time(7)).
pub(super) const TICK_NS: u64 = 10_000_000;

/// Something that reads all processes.
pub(super) trait Collector: std::fmt::Debug {
    /// Which one it is.
    fn kind(&self) -> Kind;

    /// Brings the table up to date. Fails only if no process at all can be read; then the table is as it was.
    fn sweep(&mut self, table: &mut Table, effort: Effort) -> io::Result<Swept>;
}

/// How much a sweep may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// Everything.
    Full,
    /// Under pressure: what must be opened for each reading is left as it was.
    Cheap,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Swept {
    /// Processes that exist as far as can be told; more than the table holds if some could not be read.
    pub(super) listed: u64,
    /// The most by which a resident size may be off, KiB; 0 if all are exact.
    pub(super) rss_error_kib: u64,
}

/// The best collector that works here, and a sentence if that is not the first choice. At most `budget` descriptors
/// are kept open. Fails only if there is no /proc.
pub(super) fn choose(
    proc: &Path,
    page_kib: u64,
    budget: usize,
) -> io::Result<(Box<dyn Collector>, Option<String>)> {
    Ok(match Bpf::load(proc, page_kib) {
        Ok(bpf) => (Box::new(bpf), None),
        Err(reason) => {
            let sentence =
                format!("processes are read from {}, which costs more than BPF: {reason}", proc.display());
            (Box::new(Proc::open(proc, page_kib, budget)?), Some(sentence))
        }
    })
}

/// The collector that is asked for, or a sentence on why it does not work here.
pub(super) fn open(kind: Kind, proc: &Path, page_kib: u64, budget: usize) -> io::Result<Box<dyn Collector>> {
    Ok(match kind {
        Kind::Bpf => Box::new(Bpf::load(proc, page_kib).map_err(io::Error::other)?),
        Kind::Proc => Box::new(Proc::open(proc, page_kib, budget)?),
    })
}

/// The most by which a resident size may be off where each CPU counts for itself before it adds to the sum, as since
/// Linux 6.2 (lib/percpu_counter.c): three counters (file, anonymous, shared), and a batch of pages on each CPU.
fn per_cpu_error_kib(cpus: u64, page_kib: u64) -> u64 {
    let batch = cpus.saturating_mul(2).max(32);
    batch.saturating_mul(cpus).saturating_mul(3 * page_kib)
}
