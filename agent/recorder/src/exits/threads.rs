//! Sums over threads that ended before their process.
//!
//! The kernel includes the CPU time of ended threads in the record of the whole process, but not their faults, their
//! input and output, nor the name of the process if its first thread is not the last to end.

use std::{collections::HashMap, sync::Arc};

use record::Exit;

use super::{cpu::Cpu, taskstats::Record};

/// Maximum number of processes with sums. Beyond that, only the last thread of a process counts.
const MAX_PROCESSES: usize = 4096;

/// Sums over the ended threads of one process.
#[derive(Clone, Debug, Default)]
struct Sums {
    /// Time of the first message, ns since boot: a process with a later start is a different one.
    first_ns: u64,
    cpu: Cpu,
    major_faults: u64,
    read_bytes: u64,
    written_bytes: u64,
    /// Name of the first thread, which is the name of the process.
    comm: Option<Arc<str>>,
}

/// Ended threads of living processes, by pid of the process.
#[derive(Debug)]
pub(super) struct Threads(HashMap<u32, Sums>);

impl Threads {
    pub(super) fn new() -> Self {
        Self(HashMap::with_capacity(MAX_PROCESSES))
    }

    /// Adds an ended thread of `process`; `comm` is its name if it was the first thread.
    pub(super) fn add(&mut self, process: u32, thread: &Record, comm: Option<Arc<str>>, now_ns: u64) {
        if self.0.len() >= MAX_PROCESSES && !self.0.contains_key(&process) {
            self.forget_the_oldest();
        }
        let sums = self.0.entry(process).or_insert_with(|| Sums { first_ns: now_ns, ..Sums::default() });
        sums.cpu = sums.cpu.plus(thread.cpu);
        sums.major_faults = sums.major_faults.saturating_add(thread.major_faults);
        sums.read_bytes = sums.read_bytes.saturating_add(thread.read_bytes);
        sums.written_bytes = sums.written_bytes.saturating_add(thread.written_bytes);
        sums.comm = comm.or_else(|| sums.comm.take());
    }

    /// Adds the sums of earlier threads to the exit of a process, and removes them; returns their CPU time.
    pub(super) fn join(&mut self, exit: &mut Exit) -> Cpu {
        let sums = self.0.remove(&exit.identity.pid);
        let Some(sums) = sums.filter(|sums| sums.first_ns >= exit.identity.started_ns) else {
            return Cpu::default();
        };
        exit.major_faults = exit.major_faults.saturating_add(sums.major_faults);
        exit.read_bytes = exit.read_bytes.saturating_add(sums.read_bytes);
        exit.written_bytes = exit.written_bytes.saturating_add(sums.written_bytes);
        if let Some(comm) = sums.comm {
            exit.comm = comm;
        }
        sums.cpu
    }

    fn forget_the_oldest(&mut self) {
        let oldest = self.0.iter().min_by_key(|(_, sums)| sums.first_ns).map(|(pid, _)| *pid);
        oldest.map(|pid| self.0.remove(&pid));
    }
}
