//! The two files of each process that stay open.

use std::{io, os::fd::OwnedFd};

use crate::proc::{Directory, read_anew};

/// Open files of one process. They never become those of another with the same pid: reading says ESRCH then.
#[derive(Debug)]
pub(super) struct Kept {
    stat: OwnedFd,
    statm: OwnedFd,
}

impl Kept {
    /// Descriptors of one process.
    pub(super) const DESCRIPTORS: usize = 2;

    /// Opens those of this process.
    pub(super) fn open(directory: &Directory, pid: u32) -> io::Result<Self> {
        Ok(Self { stat: directory.open_file(pid, "stat")?, statm: directory.open_file(pid, "statm")? })
    }

    /// Reads `stat` anew; its length. An error if the process is gone.
    pub(super) fn read_stat(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(read_anew(&self.stat, buffer)?.len())
    }

    /// Reads `statm` anew; an error if the process is gone.
    pub(super) fn read_statm<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        read_anew(&self.statm, buffer)
    }
}
