//! What the /proc collector remembers of each process between sweeps, its open files among it.

use std::{io, os::fd::OwnedFd};

use crate::proc::{Directory, read_anew};

/// Open files of one process. They never become those of another with the same pid: reading says ESRCH then.
#[derive(Debug)]
pub(crate) struct Kept {
    stat: OwnedFd,
    statm: OwnedFd,
}

impl Kept {
    /// Descriptors of one process.
    pub(crate) const DESCRIPTORS: usize = 2;

    /// Opens those of this process.
    pub(crate) fn open(directory: &Directory, pid: u32) -> io::Result<Self> {
        Ok(Self { stat: directory.open_file(pid, "stat")?, statm: directory.open_file(pid, "statm")? })
    }

    /// Reads `stat` anew; its length. An error if the process is gone.
    pub(crate) fn read_stat(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(read_anew(&self.stat, buffer)?.len())
    }

    /// Reads `statm` anew; an error if the process is gone.
    pub(crate) fn read_statm<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        read_anew(&self.statm, buffer)
    }
}

/// What is remembered about a process between sweeps.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) kept: Option<Kept>,
    /// Checksum of `stat` when `statm` was last read.
    pub(crate) size_at: Option<u32>,
    /// Resident size and CPU time when `status` was last read.
    pub(crate) status_at: Option<(u64, u64)>,
    /// CPU time when `io` and `schedstat` were last read.
    pub(crate) traffic_at: Option<u64>,
    /// The thread that speaks for the process, whose first one has exited.
    pub(crate) living: Option<u32>,
}
