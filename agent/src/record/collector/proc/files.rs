//! The two files of each process that are read in every sweep.

use std::{io, os::fd::OwnedFd};

use crate::record::directory::{Directory, read_anew};

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
}

/// What was read last, in buffers that hold all of these files.
#[derive(Debug)]
pub(super) struct Texts {
    stat: [u8; 2048],
    statm: [u8; 256],
    lengths: (usize, usize),
}

impl Texts {
    pub(super) fn new() -> Self {
        Self { stat: [0; 2048], statm: [0; 256], lengths: (0, 0) }
    }

    /// Reads both files anew; an error if the process is gone.
    pub(super) fn read(&mut self, kept: &Kept) -> io::Result<()> {
        self.lengths =
            (read_anew(&kept.stat, &mut self.stat)?.len(), read_anew(&kept.statm, &mut self.statm)?.len());
        Ok(())
    }

    pub(super) fn stat(&self) -> &[u8] {
        &self.stat[..self.lengths.0]
    }

    pub(super) fn statm(&self) -> &[u8] {
        &self.statm[..self.lengths.1]
    }
}
