//! The proc file system: lists processes, and opens and reads their files, without allocating.

use std::{
    fmt,
    io::{self, Write},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    fs::{CWD, Mode, OFlags, RawDir, SeekFrom, openat, seek},
    io::pread,
};

use super::number::number;

/// Maximum length of `PID/task/TID/name`, in bytes.
const PATH_BYTES: usize = 40;

/// The proc file system.
#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

impl Directory {
    /// Opens the file system.
    pub(super) fn open(proc: &Path) -> io::Result<Self> {
        Ok(Self(openat(CWD, proc, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// Opens the directory of a process's threads, which has the same layout as the directory of all processes.
    pub(super) fn open_threads(&self, pid: u32) -> io::Result<Self> {
        self.open_at(format_args!("{pid}/task"), OFlags::DIRECTORY).map(Self)
    }

    /// Opens a file of a process.
    pub(super) fn open_file(&self, pid: u32, name: &str) -> io::Result<OwnedFd> {
        self.open_at(format_args!("{pid}/{name}"), OFlags::empty())
    }

    fn open_at(&self, name: fmt::Arguments, more: OFlags) -> io::Result<OwnedFd> {
        let mut path = [0; PATH_BYTES];
        let mut left = path.as_mut_slice();
        left.write_fmt(name)?;
        let length = PATH_BYTES - left.len();
        Ok(openat(&self.0, &path[..length], OFlags::RDONLY | OFlags::CLOEXEC | more, Mode::empty())?)
    }

    /// Reads the beginning of a thread's file.
    pub(super) fn read_of_thread<'a>(
        &self,
        (pid, thread): (u32, u32),
        name: &str,
        buffer: &'a mut [u8],
    ) -> io::Result<&'a [u8]> {
        let file = self.open_at(format_args!("{pid}/task/{thread}/{name}"), OFlags::empty())?;
        read_anew(&file, buffer)
    }

    /// Opens a file of a process and reads its beginning.
    pub(super) fn read<'a>(&self, pid: u32, name: &str, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        read_anew(&self.open_file(pid, name)?, buffer)
    }
}

/// Reads an open file from its beginning, up to the buffer's size.
pub(super) fn read_anew<'a>(file: &OwnedFd, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let length = pread(file, &mut *buffer, 0)?;
    Ok(&buffer[..length])
}

/// Size of the buffer for directory entries, in bytes: fits over a thousand processes.
const BUFFER_BYTES: usize = 32 << 10;

/// The pids of all processes.
#[derive(Debug, Default)]
pub(super) struct Pids {
    buffer: Vec<MaybeUninit<u8>>,
    pids: Vec<u32>,
}

impl Pids {
    /// An empty list.
    pub(super) fn new() -> Self {
        Self { buffer: vec![MaybeUninit::uninit(); BUFFER_BYTES], pids: Vec::new() }
    }

    /// Reads the directory again; returns pids in ascending order.
    pub(super) fn list(&mut self, directory: &Directory) -> io::Result<&[u32]> {
        self.pids.clear();
        seek(&directory.0, SeekFrom::Start(0))?;
        let mut entries = RawDir::new(&directory.0, &mut self.buffer);
        while let Some(entry) = entries.next() {
            let pid = number(entry?.file_name().to_bytes()).and_then(|pid| u32::try_from(pid).ok());
            self.pids.extend(pid);
        }
        // The kernel lists them in order, but does not guarantee it.
        if !self.pids.is_sorted() {
            self.pids.sort_unstable();
        }
        Ok(&self.pids)
    }
}
