//! Copying a record into a directory, block by block as they come, so that it can be read there like the original.
//!
//! Nothing is overwritten: what is there already is passed over, and what comes is appended behind what it follows
//! or begins a segment of its own. Only `runs.json` is written anew, with what it held.

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

/// From this size on, the next block begins another segment.
const SEGMENT_BYTES: u64 = 16 << 20;

/// A copy that is being made.
#[derive(Debug)]
pub(crate) struct Copy {
    directory: PathBuf,
    known: Known,
    /// Numbers of samples that are there already: first and last of each block.
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

/// What came of copying.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// Samples that were written.
    pub samples: u64,
    /// Bytes that were written.
    pub bytes: u64,
    /// Samples that were there already.
    pub present: u64,
}

impl Copy {
    /// Prepares a directory for the record of this host.
    ///
    /// # Errors
    /// The directory cannot be used, or holds another record.
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
                    "{} holds the record of {}",
                    directory.display(),
                    known.host
                ))
                .hint(format!("give {host}'s a directory of its own")));
            }
            None if present.is_empty() => Known::new(host),
            None => {
                return Err(Error::invalid(format!(
                    "{} holds a record that ctl did not fetch",
                    directory.display()
                ))
                .hint("give a directory that is empty, or not there yet"));
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

    /// Writes one block, unless it is there already; damaged ones are not written, and told.
    ///
    /// # Errors
    /// The disk is full, or cannot be written to.
    pub(crate) fn add(&mut self, block: &StoredBlock) -> Result<Option<String>> {
        if block.data.is_empty() {
            return Ok(None);
        }
        let header = match Block::parse(&block.data) {
            Ok(block) => block.header,
            Err(damage) => return Ok(Some(format!("a block that came cannot be read: {damage}"))),
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

    /// Makes the copy durable, with the runs beside it.
    ///
    /// # Errors
    /// As [`Copy::add`].
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
    /// The segment that begins with this sample. If there is one, it holds fewer samples than are to come: those of a
    /// block that was still being filled when it was fetched.
    fn open(directory: &Path, first_sequence: u64) -> io::Result<Self> {
        let path = segment_path(directory, first_sequence);
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self { bytes: file.metadata()?.len(), file, next_sequence: first_sequence })
    }
}

/// What is in a directory that may hold a record.
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
        // Files of other kinds do not matter here.
        Err(_) => Ok(Vec::new()),
    }
}

fn failed(directory: &Path, error: &io::Error) -> Error {
    Error::invalid(format!("cannot keep a record in {}: {error}", directory.display()))
}
