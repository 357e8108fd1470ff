//! The two write-ahead files. Records are appended to one. When a block is finished, the other file is overwritten from its
//! start, so the finished block stays on disk until it is in a segment. Both files have their full length from the start:
//! an append needs no disk space, and a sync writes no metadata.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::tail::{END_BYTES, Header};

use super::{Error, names::TAILS, while_trying};

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The write-ahead files of one record.
#[derive(Debug)]
pub(super) struct Tails {
    paths: [PathBuf; 2],
    files: [Option<File>; 2],
    /// Length of each file, in bytes.
    length: u64,
    current: usize,
    header: Option<Header>,
    /// Position of the next frame, in bytes.
    at: u64,
    frame: Vec<u8>,
}

impl Tails {
    /// Write-ahead files in this directory, created when first needed.
    pub(super) fn new(directory: &Path, length: u64) -> Self {
        Self {
            paths: TAILS.map(|name| directory.join(name)),
            files: [None, None],
            length,
            current: 0,
            header: None,
            at: 0,
            frame: Vec::new(),
        }
    }

    /// Starts the file that is not in use, with its first record. When this returns, the record is on disk.
    pub(super) fn begin(&mut self, header: Header, record: &[u8]) -> Result<(), Error> {
        let next = 1 - self.current;
        if self.files[next].is_none() {
            self.files[next] = Some(open(&self.paths[next], self.length)?);
        }
        self.current = next;
        // Without a header, `append` fails: if the write below fails, this file has no key record.
        self.header = None;
        self.frame.clear();
        header.write(&mut self.frame);
        header.write_frame(record, &mut self.frame);
        self.write(0)?;
        self.header = Some(header);
        Ok(())
    }

    /// Appends one record. When this returns, the record is on disk; after an error the next record overwrites it.
    pub(super) fn append(&mut self, record: &[u8]) -> Result<(), Error> {
        let Some(header) = self.header else { return Err(Error::NoKey) };
        self.frame.clear();
        header.write_frame(record, &mut self.frame);
        self.write(self.at)
    }

    fn write(&mut self, at: u64) -> Result<(), Error> {
        let path = &self.paths[self.current];
        let Some(file) = &self.files[self.current] else { return Err(Error::NoKey) };
        file.write_all_at(&self.frame, at)
            .and_then(|()| file.sync_data())
            .map_err(while_trying("append to", path))?;
        // The next frame overwrites the end mark of this one.
        self.at = at + (self.frame.len() - END_BYTES) as u64;
        Ok(())
    }
}

/// Opens a file and extends it to at least this length; creates it if missing.
fn open(path: &Path, length: u64) -> Result<File, Error> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = file.map_err(while_trying("open", path))?;
    let filled = fill(&file, length).map_err(while_trying("allocate space in", path));
    if filled.is_err() {
        // A partly filled file would only take space on a full disk.
        let _ = fs::remove_file(path);
    }
    filled.map(|()| file)
}

/// Writes zeros up to a length: a sparse file would still need disk space when records are written.
fn fill(file: &File, length: u64) -> std::io::Result<()> {
    let mut at = file.metadata()?.len();
    if at >= length {
        return Ok(());
    }
    while at < length {
        let count = (length - at).min(ZEROS.len() as u64) as usize;
        file.write_all_at(&ZEROS[..count], at)?;
        at += count as u64;
    }
    file.sync_all()
}
