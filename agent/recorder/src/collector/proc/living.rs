//! Processes whose first thread has exited while others live: /proc then describes only that thread, a zombie without
//! memory. A living thread has the process's real values.

use super::parse::{Stat, parse_stat, parse_statm};
use crate::proc::Directory;

/// A process's values, according to a living thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Living {
    /// Id of the thread.
    pub(super) thread: u32,
    state: u8,
    virtual_kib: u64,
    stack_start: u64,
    /// Resident memory of the process.
    pub(super) resident_kib: u64,
}

impl Living {
    /// Reads a thread of a process; `None` if the thread has ended.
    pub(super) fn read(
        directory: &Directory,
        (pid, thread): (u32, u32),
        page_kib: u64,
        buffer: &mut [u8],
    ) -> Option<Self> {
        let stat = parse_stat(directory.read_of_thread((pid, thread), "stat", buffer).ok()?)?;
        let Stat { state, virtual_kib, stack_start, .. } = stat;
        let statm = directory.read_of_thread((pid, thread), "statm", buffer).ok()?;
        let resident_kib = parse_statm(statm, page_kib)?;
        (virtual_kib > 0).then_some(Self { thread, state, virtual_kib, stack_start, resident_kib })
    }

    /// Replaces the values that the first thread no longer has. Times and faults in `stat` are sums already.
    pub(super) fn speak_for(&self, stat: &mut Stat<'_>) {
        let Self { state, virtual_kib, stack_start, .. } = *self;
        (stat.state, stat.virtual_kib, stat.stack_start) = (state, virtual_kib, stack_start);
    }
}
