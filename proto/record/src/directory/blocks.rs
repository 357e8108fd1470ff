//! The blocks of a record in order: segments, then tails. Each sample appears once, and every loss is reported. Only this
//! module reports losses, so a host and a reader of its disk give the same report.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
};

use crate::Header;

use super::{
    counted,
    filter::Filter,
    names,
    overlap::without_before,
    segment::{Look, Segment},
    unsealed::Unsealed,
};

/// One block as stored on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredBlock {
    /// The block; empty if there are only losses to report.
    pub data: Vec<u8>,
    /// Sentences about what is unreadable or missing just before the block.
    pub lost: Vec<String>,
}

impl StoredBlock {
    /// The block's header; the rest of the block is not checked again. `None` if there is no block.
    pub fn header(&self) -> Option<Header> {
        Header::parse(&self.data).ok()
    }
}

/// Iterator over the blocks that remain to be read. Opens one segment at a time and holds one block at a time. Damage is
/// reported as a sentence, not as an error.
#[derive(Debug)]
pub struct Blocks {
    filter: Filter,
    segments: VecDeque<PathBuf>,
    open: Option<Segment>,
    tails: VecDeque<Unsealed>,
    /// Number of the first requested sample.
    begin: u64,
    /// Number of the next sample; `None` before the first.
    next_sequence: Option<u64>,
    lost: Vec<String>,
    /// Damage at the end of a segment: not a loss if the samples are in a tail.
    torn: Option<String>,
    /// Headers of all blocks read so far, wanted or not; `None` unless [`Self::into_headers`] collects them.
    headers: Option<Vec<Header>>,
}

impl Blocks {
    /// The tails must be read before the segments are listed: samples that become a block in between are then seen twice
    /// (and recognized by their numbers) instead of missed.
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

    /// Only samples with this number or a later one, and only their losses.
    pub(super) fn starting_at(mut self, sequence: u64) -> Self {
        let begins_before =
            |path: &PathBuf| names::first_sequence(path).is_some_and(|first| first <= sequence);
        while self.segments.get(1).is_some_and(begins_before) {
            self.segments.pop_front();
        }
        Self { begin: sequence, next_sequence: Some(sequence), ..self }
    }

    /// Compresses the wanted tails now and drops the others. For callers that keep the iterator for long or send the blocks:
    /// samples take ten times the memory of their block.
    pub fn with_sealed_tails(mut self) -> Self {
        self.tails.iter_mut().for_each(|tail| tail.seal(&self.filter));
        self
    }

    /// Reads to the end. Returns the headers of all blocks, wanted or not, and all losses. Headers of tails have no lengths
    /// or checksums.
    pub(super) fn into_headers(mut self) -> (Vec<Header>, Vec<String>) {
        self.headers = Some(Vec::new());
        let lost = self.by_ref().flat_map(|block| block.lost).collect();
        (self.headers.unwrap_or_default(), lost)
    }

    /// The next block from the segments.
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
                    let bytes = counted(bytes, "byte");
                    let sentence = format!("{bytes} of {} cannot be read: {damage}", segment.name());
                    self.lost.extend(self.torn.replace(sentence));
                }
                Look::Unreadable { bytes, error } => {
                    let rest = format!("the last {} of {}", counted(bytes, "byte"), segment.name());
                    self.refuse(&rest, &error);
                }
                Look::End => self.open = None,
            }
        }
    }

    fn open_segment(&mut self, path: &Path) {
        match Segment::open(path) {
            Ok(segment) => self.open = Some(segment),
            // Retention removed the segment after it was listed. It was the oldest: if samples before it were already
            // returned, the sequence numbers show the gap.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.refuse(&path.file_name().unwrap_or_default().to_string_lossy(), &error),
        }
    }

    /// Reports a read error. Unlike damage, this cannot be a block that is still being written, so it is always a loss.
    fn refuse(&mut self, what: &str, error: &io::Error) {
        self.lost.extend(self.torn.take());
        self.lost.push(format!("{what} cannot be read: {error}"));
    }

    fn take_stored(&mut self, header: &Header, data: Option<Vec<u8>>) -> Option<StoredBlock> {
        self.lost.extend(self.torn.take());
        if header.last_sequence() < self.begin {
            // Losses before the first requested sample are not reported.
            self.lost.clear();
        }
        let new_from = self.count_in(header)?;
        self.give(header, data?, new_from)
    }

    /// After the last segment: the samples of the tails that are in no segment, then the losses at the very end.
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
        // A tail that continues the segments holds the samples of the torn block at their end: nothing is lost.
        let continues = self.next_sequence.is_none_or(|next| header.first_sequence <= next);
        self.lost.extend(self.torn.take().filter(|_| !continues));
        let new_from = self.count_in(&header)?;
        let data = tail.into_block(&self.filter)?;
        self.give(&header, data, new_from)
    }

    /// Records that a block was read. Returns the number of its first new sample; `None` if all were in earlier blocks.
    fn count_in(&mut self, header: &Header) -> Option<u64> {
        let next = self.next_sequence.unwrap_or(header.first_sequence);
        if header.last_sequence() < next {
            return None;
        }
        if header.latest_wall_ms < self.filter.from_ms {
            // Losses before the requested time are not reported.
            self.lost.clear();
        } else if header.first_sequence > next {
            self.lost.push(missing(header.first_sequence - next));
        }
        self.next_sequence = Some(header.last_sequence() + 1);
        if let Some(headers) = &mut self.headers {
            headers.push(*header);
        }
        Some(next)
    }

    /// The new samples of a block, and the losses before them.
    fn give(&mut self, header: &Header, data: Vec<u8>, new_from: u64) -> Option<StoredBlock> {
        let mut block = StoredBlock { data, lost: std::mem::take(&mut self.lost) };
        if header.first_sequence < new_from {
            let (rest, damage) = without_before(&block.data, new_from);
            block.data = rest;
            self.lost.extend(damage.map(|damage| format!("cannot read a block: {damage}")));
        }
        (block != StoredBlock::default()).then_some(block)
    }
}

/// The sentence about a gap of `count` samples.
fn missing(count: u64) -> String {
    let verb = if count == 1 { "is" } else { "are" };
    format!("{} {verb} missing", counted(count, "sample"))
}

impl Iterator for Blocks {
    type Item = StoredBlock;

    fn next(&mut self) -> Option<StoredBlock> {
        self.next_of_segments().or_else(|| self.next_of_tails())
    }
}
