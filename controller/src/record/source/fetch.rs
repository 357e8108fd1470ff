//! Copies a record into a directory, block by block, so that the copy can be read like the original.
//!
//! Existing blocks are never overwritten: blocks that the copy already has are skipped, and new ones are appended to the
//! block that they continue or start a new segment. Only `runs.json` is rewritten, and keeps its old entries.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use record::{
    Block, Header,
    directory::{StoredBlock, segment_path},
};

use super::{Directory, KnownRun, runs::Known};
use crate::error::{Error, Result};

/// When a segment has this size, the next block starts another one.
const SEGMENT_BYTES: u64 = 16 << 20;

/// A copy in progress.
#[derive(Debug)]
pub(crate) struct Copy {
    directory: PathBuf,
    known: Known,
    /// Existing samples: numbers of the first and the last sample of each block.
    present: Vec<(u64, u64)>,
    open: Option<Segment>,
    fetched: Fetched,
}

/// A segment that is being written.
#[derive(Debug)]
struct Segment {
    file: File,
    bytes: u64,
    next_sequence: u64,
}

/// Result of copying.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// Number of samples written.
    pub samples: u64,
    /// Number of bytes written.
    pub bytes: u64,
    /// Number of samples that the copy already had.
    pub present: u64,
}

impl Copy {
    /// Prepares a directory for the record of this host.
    ///
    /// # Errors
    /// If the directory cannot be used, or contains another record.
    pub(crate) fn new(directory: &Path, host: &str) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| failed(directory, &error))?;
        let known = Known::read(directory)?;
        let present = present(directory)?;
        let known = match known {
            Some(known) if known.host == host => known,
            Some(known) => {
                return Err(Error::invalid(format!(
                    "{} contains the record of {}",
                    directory.display(),
                    known.host
                ))
                .hint(format!("use another directory for {host}")));
            }
            None if present.is_empty() => Known::new(host),
            None => {
                return Err(Error::invalid(format!(
                    "{} contains a record that ctl did not fetch",
                    directory.display()
                ))
                .hint("use an empty or a new directory"));
            }
        };
        known.write(directory).map_err(|error| failed(directory, &error))?;
        Ok(Self {
            directory: directory.to_path_buf(),
            known,
            present,
            open: None,
            fetched: Fetched::default(),
        })
    }

    /// Writes one block, unless the copy already has it. A damaged block is not written but reported: returns a sentence.
    ///
    /// # Errors
    /// If the disk is full or cannot be written to.
    pub(crate) fn add(&mut self, block: &StoredBlock) -> Result<Option<String>> {
        if block.data.is_empty() {
            return Ok(None);
        }
        let header = match Block::parse(&block.data) {
            Ok(block) => block.header,
            Err(damage) => return Ok(Some(format!("received a damaged block: {damage}"))),
        };
        let (first, last) = (header.first_sequence, header.last_sequence());
        if self.present.iter().any(|(from, until)| *from <= first && last <= *until) {
            self.fetched.present += u64::from(header.records);
            self.open = None;
            return Ok(None);
        }
        self.append(&header, &block.data).map_err(|error| failed(&self.directory, &error))?;
        Ok(None)
    }

    fn append(&mut self, header: &Header, data: &[u8]) -> io::Result<()> {
        let continues = |segment: &Segment| {
            segment.next_sequence == header.first_sequence && segment.bytes < SEGMENT_BYTES
        };
        if !self.open.as_ref().is_some_and(continues) {
            self.finish_segment()?;
            self.open = Some(Segment::open(&self.directory, header.first_sequence)?);
        }
        if let Some(segment) = &mut self.open {
            segment.file.write_all(data)?;
            segment.bytes += data.len() as u64;
            segment.next_sequence = header.last_sequence() + 1;
        }
        self.fetched.samples += u64::from(header.records);
        self.fetched.bytes += data.len() as u64;
        Ok(())
    }

    fn finish_segment(&mut self) -> io::Result<()> {
        self.open.take().map_or(Ok(()), |segment| segment.file.sync_all())
    }

    /// Syncs the copy to disk, and writes the runs to `runs.json`.
    ///
    /// # Errors
    /// Same as [`Copy::add`].
    pub(crate) fn finish(mut self, runs: Vec<KnownRun>) -> Result<Fetched> {
        self.known.merge(runs);
        let finished = self
            .finish_segment()
            .and_then(|()| self.known.write(&self.directory))
            .and_then(|()| File::open(&self.directory)?.sync_all());
        finished.map_err(|error| failed(&self.directory, &error))?;
        Ok(self.fetched)
    }
}

impl Segment {
    /// Opens or creates the segment that starts with this sample. An existing one holds an earlier version of the block, which
    /// was fetched before it was full; the new block is appended.
    fn open(directory: &Path, first_sequence: u64) -> io::Result<Self> {
        let path = segment_path(directory, first_sequence);
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self { bytes: file.metadata()?.len(), file, next_sequence: first_sequence })
    }
}

/// Sample numbers of the blocks in a directory, which may have no record.
fn present(directory: &Path) -> Result<Vec<(u64, u64)>> {
    let is_empty = fs::read_dir(directory).map_err(|error| failed(directory, &error))?.next().is_none();
    if is_empty {
        return Ok(Vec::new());
    }
    match Directory::open(directory) {
        Ok(record) => {
            let (headers, _) = record.headers()?;
            Ok(headers.iter().map(|header| (header.first_sequence, header.last_sequence())).collect())
        }
        // The directory has other files, but no record.
        Err(_) => Ok(Vec::new()),
    }
}

fn failed(directory: &Path, error: &io::Error) -> Error {
    Error::invalid(format!("cannot store a record in {}: {error}", directory.display()))
}
