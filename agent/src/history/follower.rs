//! Following the record: the samples that have been appended since the last look, each look as one block.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use proto::history::{Block, Damage, Decoder, Header, Sample, encode, tail};

use super::{Error, Reader, StoredBlock, TAIL, while_trying};

/// A place in the stream of samples. It keeps the tail open, so that a tail that became a block is still read to
/// its end.
#[derive(Debug)]
pub struct Follower {
    directory: PathBuf,
    path: PathBuf,
    tail: Option<OpenTail>,
    next_sequence: u64,
}

#[derive(Debug)]
struct OpenTail {
    file: File,
    decoder: Decoder,
    /// Bytes read but not yet a whole frame.
    pending: Vec<u8>,
    /// Number of the record that comes next in this file.
    sequence: u64,
}

impl Follower {
    /// Begins after the sample of this number; with `None`, after the newest sample there is.
    pub fn new(directory: &Path, after: Option<u64>) -> Result<Self, Error> {
        let next_sequence = after.map_or(0, |sequence| sequence.saturating_add(1));
        let mut follower = Self {
            directory: directory.to_path_buf(),
            path: directory.join(TAIL),
            tail: None,
            next_sequence,
        };
        if after.is_none() {
            follower.poll()?;
        }
        Ok(follower)
    }

    /// What is new, oldest first; empty if nothing is. Call it when something in the directory has changed.
    pub fn poll(&mut self) -> Result<Vec<StoredBlock>, Error> {
        let mut blocks = Vec::new();
        loop {
            if let Some(tail) = &mut self.tail {
                blocks.extend(tail.read(&mut self.next_sequence).map_err(while_trying("read", &self.path))?);
            }
            let Some(newer) = self.open_newer().map_err(while_trying("open", &self.path))? else {
                return Ok(blocks);
            };
            if self.next_sequence > 0 && newer.sequence > self.next_sequence {
                blocks.extend(self.stored_before(newer.sequence)?);
            }
            self.tail = Some(newer);
        }
    }

    /// The blocks that became segments faster than they were followed.
    fn stored_before(&mut self, sequence: u64) -> Result<Vec<StoredBlock>, Error> {
        let missed = self.next_sequence..sequence;
        self.next_sequence = sequence;
        let mut blocks = Vec::new();
        for block in Reader::new(&self.directory).blocks(i64::MIN, i64::MAX)? {
            let block = block?;
            let Ok(header) = Header::parse(&block.data) else { continue };
            if missed.contains(&header.last_sequence()) {
                blocks.push(
                    without_before(block, missed.start).map_err(while_trying("read", &self.directory))?,
                );
            }
        }
        Ok(blocks)
    }

    /// The tail that has taken the place of the one being read, if there is one.
    fn open_newer(&self) -> io::Result<Option<OpenTail>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let identity = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
        if let Some(tail) = &self.tail
            && identity(&tail.file)? == identity(&file)?
        {
            return Ok(None);
        }
        let mut header = [0; tail::HEADER_BYTES];
        file.read_exact(&mut header)?;
        let header = tail::Header::parse(&header).map_err(io::Error::other)?;
        let (decoder, sequence) = (Decoder::new(header.boot_id), header.first_sequence);
        Ok(Some(OpenTail { file, decoder, pending: Vec::new(), sequence }))
    }
}

/// A block without the samples before this number: they were sent while they were still in the tail.
fn without_before(mut block: StoredBlock, sequence: u64) -> io::Result<StoredBlock> {
    let parsed = Block::parse(&block.data).map_err(io::Error::other)?;
    let sent = sequence.saturating_sub(parsed.header.first_sequence);
    if sent > 0 {
        let samples =
            parsed.samples().and_then(|samples| samples.skip(sent as usize).collect::<Result<Vec<_>, _>>());
        block.data = encode(&samples.map_err(io::Error::other)?, sequence)?;
    }
    Ok(block)
}

impl OpenTail {
    /// The new samples of this tail, from `next_sequence` on.
    fn read(&mut self, next_sequence: &mut u64) -> io::Result<Option<StoredBlock>> {
        self.file.read_to_end(&mut self.pending)?;
        let mut samples: Vec<Sample> = Vec::new();
        let mut lost = Vec::new();
        let mut rest = self.pending.as_slice();
        loop {
            let mut record = match tail::read_frame(&mut rest) {
                Ok(record) => record,
                // Not yet whole: the rest comes with the next look.
                Err(Damage::Cut) => break,
                Err(damage) => {
                    lost.push(format!("the newest samples cannot be read: {damage}"));
                    rest = &[];
                    break;
                }
            };
            let sample = self.decoder.decode(&mut record);
            if self.sequence >= *next_sequence {
                *next_sequence = self.sequence + 1;
                match sample {
                    Ok(sample) => samples.push(sample.clone()),
                    Err(damage) => lost.push(format!("a sample cannot be read: {damage}")),
                }
            }
            self.sequence += 1;
        }
        let read = self.pending.len() - rest.len();
        self.pending.drain(..read);
        let first_sequence = (*next_sequence).saturating_sub(samples.len() as u64);
        let block = StoredBlock { data: encode(&samples, first_sequence)?, lost };
        Ok((block != StoredBlock::default()).then_some(block))
    }
}
