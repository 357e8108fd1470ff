//! Follows the record: each poll returns the samples appended since the last one, as one block per tail.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{Damage, Decoder, Sample, encode, tail};

use super::{Error, blocks::StoredBlock, filter::Filter, names::TAILS, reader::Reader, while_trying};

/// Bytes read from a tail at once.
const CHUNK: usize = 64 << 10;

/// A position in the stream of samples.
#[derive(Debug)]
pub struct Follower {
    directory: PathBuf,
    tails: [FollowedTail; 2],
    next_sequence: u64,
}

/// One tail file and how far it was read.
#[derive(Debug)]
struct FollowedTail {
    path: PathBuf,
    file: Option<File>,
    reading: Option<Reading>,
}

/// State since the tail file was last restarted.
#[derive(Debug)]
struct Reading {
    header: tail::Header,
    decoder: Decoder,
    at: u64,
    /// Number of the next record.
    sequence: u64,
}

impl Follower {
    /// Starts after the sample with this number; with `None`, after the newest existing sample.
    pub fn new(directory: &Path, after: Option<u64>) -> Result<Self, Error> {
        let tail = |name| FollowedTail { path: directory.join(name), file: None, reading: None };
        let mut follower = Self {
            directory: directory.to_path_buf(),
            tails: TAILS.map(tail),
            next_sequence: after.map_or(0, |sequence| sequence.saturating_add(1)),
        };
        if after.is_none() {
            follower.poll()?;
        }
        Ok(follower)
    }

    /// Returns new blocks, oldest first. Call this after a change in the directory.
    pub fn poll(&mut self) -> Result<Vec<StoredBlock>, Error> {
        for tail in &mut self.tails {
            tail.look().map_err(while_trying("read", &tail.path))?;
        }
        self.tails.sort_by_key(|tail| tail.reading.as_ref().map(|reading| reading.header.first_sequence));
        let mut blocks = Vec::new();
        for index in 0..self.tails.len() {
            let Some(reading) = &self.tails[index].reading else { continue };
            let first = reading.header.first_sequence;
            // 0 means that the follower starts at the newest sample: older stored samples are not wanted.
            if self.next_sequence > 0 && first > self.next_sequence {
                blocks.extend(self.stored_before(first)?);
            }
            let tail = &mut self.tails[index];
            blocks.extend(tail.read(&mut self.next_sequence).map_err(while_trying("read", &tail.path))?);
        }
        Ok(blocks)
    }

    /// Returns blocks that moved from a tail to a segment before this follower read them, without the samples that it already
    /// returned, and their losses.
    fn stored_before(&mut self, sequence: u64) -> Result<Vec<StoredBlock>, Error> {
        let reader = Reader::new(&self.directory);
        let mut blocks = Vec::new();
        for mut block in reader.blocks(Filter::default())?.starting_at(self.next_sequence) {
            let header = block.header();
            if header.is_some_and(|header| header.first_sequence >= sequence) {
                // This is the tail itself, which the caller reads: only the losses before it are wanted here.
                block.data.clear();
                blocks.extend((!block.lost.is_empty()).then_some(block));
                break;
            }
            self.next_sequence = header.map_or(self.next_sequence, |header| header.last_sequence() + 1);
            blocks.push(block);
        }
        self.next_sequence = self.next_sequence.max(sequence);
        Ok(blocks)
    }
}

impl FollowedTail {
    /// Opens the file, and starts over if the writer restarted it.
    fn look(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.file = match File::open(&self.path) {
                Ok(file) => Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            };
        }
        let Some(file) = &self.file else { return Ok(()) };
        let mut head = [0; tail::HEADER_BYTES];
        let count = file.read_at(&mut head, 0)?;
        // An invalid header is still being written: the next poll reads it again.
        let Ok(Some(header)) = tail::Header::parse(&head[..count]) else { return Ok(()) };
        if self.reading.as_ref().is_none_or(|reading| reading.header != header) {
            let (decoder, sequence) = (Decoder::new(header.boot_id, header.version), header.first_sequence);
            self.reading = Some(Reading { header, decoder, at: tail::HEADER_BYTES as u64, sequence });
        }
        Ok(())
    }

    /// The new samples of this tail, from `next_sequence` on.
    fn read(&mut self, next_sequence: &mut u64) -> io::Result<Option<StoredBlock>> {
        let (Some(file), Some(reading)) = (&self.file, &mut self.reading) else { return Ok(None) };
        let mut samples: Vec<Sample> = Vec::new();
        let mut lost = Vec::new();
        while let Some(record) = reading.next(file)? {
            // Decode samples that were already returned too: later records are differences from them.
            let sample = reading.decoder.decode(&record);
            if reading.sequence >= *next_sequence {
                *next_sequence = reading.sequence + 1;
                match sample {
                    Ok(sample) => samples.push(sample.clone()),
                    Err(damage) => lost.push(format!("cannot read a sample: {damage}")),
                }
            }
            reading.sequence += 1;
        }
        let first_sequence = (*next_sequence).saturating_sub(samples.len() as u64);
        let block = StoredBlock { data: encode(&samples, first_sequence)?, lost };
        Ok((block != StoredBlock::default()).then_some(block))
    }
}

impl Reading {
    /// The next complete record; `None` at the end. An incomplete record is returned by a later poll, and records after damage
    /// once they are in a block.
    fn next(&mut self, file: &File) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; CHUNK];
        loop {
            let count = file.read_at(&mut bytes, self.at)?;
            let mut rest = &bytes[..count];
            match self.header.read_frame(&mut rest) {
                Ok(Some(record)) => {
                    self.at += (count - rest.len()) as u64;
                    return Ok(Some(record.to_vec()));
                }
                Err(Damage::Cut) if count == bytes.len() => bytes.resize(2 * count, 0),
                _ => return Ok(None),
            }
        }
    }
}
