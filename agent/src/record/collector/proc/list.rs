//! Which processes there are: the numeric names in /proc.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
};

use rustix::fs::{RawDir, seek};

use crate::record::number::number;

/// Bytes of entries asked for at once: over a thousand processes.
const BUFFER_BYTES: usize = 32 << 10;

/// The pids of one directory.
#[derive(Debug, Default)]
pub(super) struct Pids {
    buffer: Vec<MaybeUninit<u8>>,
    pids: Vec<u32>,
}

impl Pids {
    pub(super) fn new() -> Self {
        Self { buffer: vec![MaybeUninit::uninit(); BUFFER_BYTES], pids: Vec::new() }
    }

    /// Lists the directory anew: pids in ascending order.
    pub(super) fn list(&mut self, directory: &OwnedFd) -> io::Result<&[u32]> {
        self.pids.clear();
        seek(directory, rustix::fs::SeekFrom::Start(0))?;
        let mut entries = RawDir::new(directory, &mut self.buffer);
        while let Some(entry) = entries.next() {
            let pid = number(entry?.file_name().to_bytes()).and_then(|pid| u32::try_from(pid).ok());
            self.pids.extend(pid);
        }
        // The kernel lists them in order, but promises nothing.
        if !self.pids.is_sorted() {
            self.pids.sort_unstable();
        }
        Ok(&self.pids)
    }
}
