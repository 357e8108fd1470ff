//! The proc file system: opening and reading the files of one process, without allocating.

use std::{
    io::{self, Write},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::pread,
};

/// Longest `PID/name`.
const PATH_BYTES: usize = 32;

/// The proc file system.
#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

impl Directory {
    /// Opens it.
    pub(super) fn open(proc: &Path) -> io::Result<Self> {
        Ok(Self(openat(CWD, proc, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// The directory itself, to be listed.
    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    /// Opens one file of a process.
    pub(super) fn open_file(&self, pid: u32, name: &str) -> io::Result<OwnedFd> {
        let mut path = [0; PATH_BYTES];
        let mut left = path.as_mut_slice();
        write!(left, "{pid}/{name}")?;
        let length = PATH_BYTES - left.len();
        Ok(openat(&self.0, &path[..length], OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Reads the beginning of one file of a process, opening it for that.
    pub(super) fn read<'a>(&self, pid: u32, name: &str, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        read_anew(&self.open_file(pid, name)?, buffer)
    }
}

/// Reads an open file from its beginning, as far as the buffer reaches.
pub(super) fn read_anew<'a>(file: &OwnedFd, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let length = pread(file, &mut *buffer, 0)?;
    Ok(&buffer[..length])
}
