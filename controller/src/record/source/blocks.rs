//! The blocks of a directory in order: segments, then tails, nothing twice, and every loss told.

use std::{collections::VecDeque, path::PathBuf};

use record::Header;

use super::{
    Filter, StoredBlock,
    segment::{Look, Segment},
    tail::Tail,
};

/// What is left of a directory to be read.
#[derive(Debug)]
pub struct Blocks {
    filter: Filter,
    segments: VecDeque<PathBuf>,
    open: Option<Segment>,
    tails: VecDeque<Tail>,
    /// Number of the sample that comes next.
    next_sequence: Option<u64>,
    /// What all blocks so far say about themselves, wanted or not; those of tails without lengths and checksums.
    headers: Vec<Header>,
    lost: Vec<String>,
    /// Damage at the end of a segment, which is no loss if the samples are in a tail.
    torn: Option<String>,
}

impl Blocks {
    pub(super) fn new(segments: Vec<PathBuf>, tails: Vec<Tail>, filter: Filter) -> Self {
        Self {
            filter,
            segments: segments.into(),
            open: None,
            tails: tails.into(),
            next_sequence: None,
            headers: Vec::new(),
            lost: Vec::new(),
            torn: None,
        }
    }

    /// What the blocks that were passed say about themselves, wanted or not.
    pub(super) fn into_headers(self) -> Vec<Header> {
        self.headers
    }

    /// Segment by segment, block by block.
    fn next_stored(&mut self) -> Option<StoredBlock> {
        loop {
            let Some(segment) = &mut self.open else {
                let path = self.segments.pop_front()?;
                match Segment::open(&path) {
                    Ok(segment) => self.open = Some(segment),
                    Err(error) => self.lost.push(format!("{} cannot be read: {error}", path.display())),
                }
                continue;
            };
            match segment.look(&self.filter) {
                Look::Block { header, data } => {
                    self.lost.extend(self.torn.take());
                    if let Some(block) = self.take(&header, || data) {
                        return Some(block);
                    }
                }
                Look::Damaged(sentence) => {
                    self.lost.extend(self.torn.take());
                    self.torn = Some(sentence);
                }
                Look::End => self.open = None,
            }
        }
    }

    fn next_tail(&mut self) -> Option<StoredBlock> {
        while let Some(tail) = self.tails.pop_front() {
            let Some(samples) = tail.samples else {
                self.lost.extend(tail.lost);
                continue;
            };
            let header = samples.header();
            let wanted = self.filter.admits(header);
            let continues = self.next_sequence.is_none_or(|next| header.first_sequence <= next);
            self.lost.extend(self.torn.take().filter(|_| !continues));
            let block = self.take(header, || wanted.then(|| samples.stored()));
            self.lost.extend(tail.lost);
            if block.is_some() {
                return block;
            }
        }
        self.lost.extend(self.torn.take());
        let lost = std::mem::take(&mut self.lost);
        (!lost.is_empty()).then(|| StoredBlock { lost, ..StoredBlock::default() })
    }

    /// Counts a block in, and gives it back if it is wanted and new.
    fn take(&mut self, header: &Header, data: impl FnOnce() -> Option<Vec<u8>>) -> Option<StoredBlock> {
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
        self.headers.push(*header);
        let seen = next.saturating_sub(header.first_sequence) as usize;
        data().map(|data| StoredBlock { data, seen, lost: std::mem::take(&mut self.lost) })
    }
}

impl Iterator for Blocks {
    type Item = StoredBlock;

    fn next(&mut self) -> Option<StoredBlock> {
        self.next_stored().or_else(|| self.next_tail())
    }
}
