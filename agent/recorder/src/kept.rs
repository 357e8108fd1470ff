//! What the /proc collector keeps for each process between sweeps, including open files.

use std::{io, os::fd::OwnedFd};

use crate::proc::{Directory, read_anew};

/// Open files of one process. If the pid is reused, reading them fails with ESRCH.
#[derive(Debug)]
pub(crate) struct Kept {
    stat: OwnedFd,
    statm: OwnedFd,
}

impl Kept {
    /// Number of descriptors for each process.
    pub(crate) const DESCRIPTORS: usize = 2;

    /// Opens the files of a process.
    pub(crate) fn open(directory: &Directory, pid: u32) -> io::Result<Self> {
        Ok(Self { stat: directory.open_file(pid, "stat")?, statm: directory.open_file(pid, "statm")? })
    }

    /// Reads `stat` again and returns its length; fails if the process is gone.
    pub(crate) fn read_stat(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(read_anew(&self.stat, buffer)?.len())
    }

    /// Reads `statm` again; fails if the process is gone.
    pub(crate) fn read_statm<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        read_anew(&self.statm, buffer)
    }
}

/// What is kept for a process between sweeps.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) kept: Option<Kept>,
    /// Checksum of `stat` at the last reading of `statm`.
    pub(crate) size_at: Option<u32>,
    /// Resident size and CPU time at the last reading of `status`.
    pub(crate) status_at: Option<(u64, u64)>,
    /// CPU time at the last reading of `io` and `schedstat`.
    pub(crate) traffic_at: Option<u64>,
    /// Page faults and CPU time of exited children at the last reading of `io`.
    pub(crate) children_at: u64,
    /// Whether the process waited for a child between the last two readings of `io`: the kernel has added the child's.
    pub(crate) reaped: bool,
    /// A living thread that represents the process, if its first thread has exited.
    pub(crate) living: Option<u32>,
}
