//! The blocks of a record in order: segments, then tails, each sample once, and every loss told. There is no other
//! account of losses, so that a host and who reads its disk say the same.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
};

use crate::Header;

use super::{
    filter::Filter,
    names,
    overlap::without_before,
    segment::{Look, Segment},
    unsealed::Unsealed,
};

/// One block as it lies on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredBlock {
    /// The block; empty if there is only something to say about what was lost.
    pub data: Vec<u8>,
    /// Sentences about what could not be read or is missing just before it.
    pub lost: Vec<String>,
}

impl StoredBlock {
    /// What the block says about itself; the rest of it is not checked again. `None` if there is no block.
    pub fn header(&self) -> Option<Header> {
        Header::parse(&self.data).ok()
    }
}

/// What is left of a record to be read, as an iterator: each segment is opened when it is its turn, and one block is held at
/// a time. Damage is no error but a sentence.
#[derive(Debug)]
pub struct Blocks {
    filter: Filter,
    segments: VecDeque<PathBuf>,
    open: Option<Segment>,
    tails: VecDeque<Unsealed>,
    /// Number of the first sample that is asked for.
    begin: u64,
    /// Number of the sample that comes next; `None` before the first.
    next_sequence: Option<u64>,
    lost: Vec<String>,
    /// Damage at the end of a segment, which is no loss if the samples are in a tail.
    torn: Option<String>,
    /// What the blocks that were passed say about themselves, wanted or not, if somebody asks.
    headers: Option<Vec<Header>>,
}

impl Blocks {
    /// The tails must have been read before the segments were listed: what becomes a block meanwhile is then seen twice, and
    /// told by its number, not missed.
    pub(super) fn new(tails: Vec<Unsealed>, segments: Vec<PathBuf>, filter: Filter) -> Self {
        Self {
            filter,
            segments: segments.into(),
            open: None,
            tails: tails.into(),
            begin: 0,
            next_sequence: None,
            lost: Vec::new(),
            torn: None,
            headers: None,
        }
    }

    /// Only samples from this number on, and what is lost of them.
    pub(super) fn starting_at(mut self, sequence: u64) -> Self {
        let begins_before =
            |path: &PathBuf| names::first_sequence(path).is_some_and(|first| first <= sequence);
        while self.segments.get(1).is_some_and(begins_before) {
            self.segments.pop_front();
        }
        Self { begin: sequence, next_sequence: Some(sequence), ..self }
    }

    /// Compresses what of the tails is wanted now and forgets the others: for who keeps this for long, or sends the blocks,
    /// since samples take ten times the memory of their block.
    pub fn with_sealed_tails(mut self) -> Self {
        self.tails.iter_mut().for_each(|tail| tail.seal(&self.filter));
        self
    }

    /// Reads to the end; returns what all blocks say about themselves, wanted or not, and every word on what is lost. What is
    /// in a tail has no lengths and checksums.
    pub(super) fn into_headers(mut self) -> (Vec<Header>, Vec<String>) {
        self.headers = Some(Vec::new());
        let lost = self.by_ref().flat_map(|block| block.lost).collect();
        (self.headers.unwrap_or_default(), lost)
    }

    /// Segment by segment, block by block.
    fn next_of_segments(&mut self) -> Option<StoredBlock> {
        loop {
            let Some(segment) = &mut self.open else {
                let path = self.segments.pop_front()?;
                self.open_segment(&path);
                continue;
            };
            match segment.look(&self.filter, self.next_sequence.unwrap_or(0)) {
                Look::Block { header, data } => {
                    let block = self.take_stored(&header, data);
                    if block.is_some() {
                        return block;
                    }
                }
                Look::Damaged { bytes, damage } => {
                    let sentence = format!("{bytes} bytes of {} cannot be read: {damage}", segment.name());
                    self.lost.extend(self.torn.replace(sentence));
                }
                Look::Unreadable { bytes, error } => {
                    let rest = format!("the last {bytes} bytes of {}", segment.name());
                    self.refuse(&rest, &error);
                }
                Look::End => self.open = None,
            }
        }
    }

    fn open_segment(&mut self, path: &Path) {
        match Segment::open(path) {
            Ok(segment) => self.open = Some(segment),
            // Shed since it was listed. It was the oldest, and what is missing behind a sample is told by the numbers.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.refuse(&path.file_name().unwrap_or_default().to_string_lossy(), &error),
        }
    }

    /// Says what the disk does not give. No recorder at work looks like that.
    fn refuse(&mut self, what: &str, error: &io::Error) {
        self.lost.extend(self.torn.take());
        self.lost.push(format!("{what} cannot be read: {error}"));
    }

    fn take_stored(&mut self, header: &Header, data: Option<Vec<u8>>) -> Option<StoredBlock> {
        self.lost.extend(self.torn.take());
        if header.last_sequence() < self.begin {
            self.lost.clear();
        }
        let new_from = self.count_in(header)?;
        self.give(header, data?, new_from)
    }

    /// After the last segment: the tails, as far as they have not become blocks, and what was lost last.
    fn next_of_tails(&mut self) -> Option<StoredBlock> {
        while let Some(mut tail) = self.tails.pop_front() {
            let lost = tail.lost.take();
            let block = self.take_tail(tail);
            self.lost.extend(lost);
            if block.is_some() {
                return block;
            }
        }
        self.lost.extend(self.torn.take());
        let lost = std::mem::take(&mut self.lost);
        (!lost.is_empty()).then(|| StoredBlock { lost, ..StoredBlock::default() })
    }

    fn take_tail(&mut self, tail: Unsealed) -> Option<StoredBlock> {
        let header = tail.header?;
        let continues = self.next_sequence.is_none_or(|next| header.first_sequence <= next);
        self.lost.extend(self.torn.take().filter(|_| !continues));
        let new_from = self.count_in(&header)?;
        let data = tail.into_block(&self.filter)?;
        self.give(&header, data, new_from)
    }

    /// Counts a block in. Returns the number of its first sample that was in no block before, or nothing if all were.
    fn count_in(&mut self, header: &Header) -> Option<u64> {
        let next = self.next_sequence.unwrap_or(header.first_sequence);
        if header.last_sequence() < next {
            return None;
        }
        if header.latest_wall_ms < self.filter.from_ms {
            // What is lost before the time that was asked for is of no interest.
            self.lost.clear();
        } else if header.first_sequence > next {
            self.lost.push(format!("{} samples are missing", header.first_sequence - next));
        }
        self.next_sequence = Some(header.last_sequence() + 1);
        if let Some(headers) = &mut self.headers {
            headers.push(*header);
        }
        Some(next)
    }

    /// What is new of a block, and what was lost before it.
    fn give(&mut self, header: &Header, data: Vec<u8>, new_from: u64) -> Option<StoredBlock> {
        let mut block = StoredBlock { data, lost: std::mem::take(&mut self.lost) };
        if header.first_sequence < new_from {
            let (rest, damage) = without_before(&block.data, new_from);
            block.data = rest;
            self.lost.extend(damage.map(|damage| format!("a block of history cannot be read: {damage}")));
        }
        (block != StoredBlock::default()).then_some(block)
    }
}

impl Iterator for Blocks {
    type Item = StoredBlock;

    fn next(&mut self) -> Option<StoredBlock> {
        self.next_of_segments().or_else(|| self.next_of_tails())
    }
}
