//! A process whose first thread has exited while others live: what /proc says of the process is then what it says of that
//! thread, a zombie without memory. A thread that lives says what is so.

use super::parse::{Stat, parse_stat, parse_statm};
use crate::proc::Directory;

/// What a living thread says of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Living {
    /// Its id.
    pub(super) thread: u32,
    state: u8,
    virtual_kib: u64,
    stack_start: u64,
    /// Resident memory of the process.
    pub(super) resident_kib: u64,
}

impl Living {
    /// Reads a thread of a process; `None` if it has ended.
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

    /// Puts into the process's `stat` what its first thread cannot say any more. Times and faults are sums there.
    pub(super) fn speak_for(&self, stat: &mut Stat<'_>) {
        let Self { state, virtual_kib, stack_start, .. } = *self;
        (stat.state, stat.virtual_kib, stat.stack_start) = (state, virtual_kib, stack_start);
    }
}
