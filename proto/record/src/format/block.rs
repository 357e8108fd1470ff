//! A block: records of one boot behind a checked header, in compressed streams. A segment file contains only blocks.
//!
//! ```text
//! header, see [`Header`]
//! index:  uncompressed and stored length of every stream · the stream of members, which names every process
//! streams: the others, in order; each is a zstd frame, or uncompressed if that is not shorter
//! ```

use std::cell::RefCell;

use zstd::bulk::Decompressor;

use super::{
    column::Columns,
    damage::Damage,
    decoder::{self, Cursors, State, read_index},
    entry::{self, MEMBERS, STREAMS},
    focus::Focused,
    header::{HEADER_BYTES, Header},
    varint::Cursor,
};
use crate::sample::{Identity, Sample};

/// A block with valid checksums.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// The block's header.
    pub header: Header,
    body: &'a [u8],
}

impl<'a> Block<'a> {
    /// Checks the block at the beginning of `bytes`; more bytes may follow it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Damage> {
        let header = Header::parse(bytes)?;
        let body = bytes.get(HEADER_BYTES..header.block_bytes()).ok_or(Damage::Cut)?;
        if crc32c::crc32c(body) != header.body_crc {
            return Err(Damage::Checksum);
        }
        Ok(Self { header, body })
    }

    /// The block's samples, completely decoded one at a time.
    pub fn samples(&self) -> Result<Samples, Damage> {
        self.samples_of(Columns::ALL)
    }

    /// Samples with only these columns of numbers; other columns stay as in [`super::Process::bare`].
    pub fn samples_of(&self, columns: Columns) -> Result<Samples, Damage> {
        let (raw, spans) = self.read(columns)?;
        let state = State::new(self.header.boot_id);
        Ok(Samples { state, columns, raw, spans, left: self.header.records, damage: None })
    }

    /// The same, but with only the identities of processes with other ids, which is faster.
    pub fn samples_of_processes(&self, columns: Columns, pids: &[u32]) -> Result<Samples, Damage> {
        let mut samples = self.samples_of(columns)?;
        samples.focus(pids);
        Ok(samples)
    }

    /// The required streams, uncompressed, and the range of each.
    fn read(&self, columns: Columns) -> Result<(Vec<u8>, Spans), Damage> {
        let (index, rest) = self.body.split_at(self.header.index_bytes as usize);
        let (table, members) = read_table(index, &self.header)?;
        let wanted = |stream: &usize| entry::is_wanted(*stream, columns);
        let raw_bytes = (0..STREAMS).filter(wanted).map(|stream| table[stream].raw).sum();
        let mut reading = Reading::of(raw_bytes);
        reading.add(MEMBERS, table[MEMBERS], members)?;
        let mut rest = Cursor(rest);
        for stream in (0..STREAMS).filter(|stream| *stream != MEMBERS) {
            let stored = rest.bytes(table[stream].stored)?;
            // Unwanted streams are skipped without decompressing them.
            if wanted(&stream) {
                reading.add(stream, table[stream], stored)?;
            }
        }
        if !rest.0.is_empty() {
            return Err(Damage::Inconsistent("a block holds more than its header says"));
        }
        Ok((reading.raw, reading.spans))
    }
}

/// Calls `add` for every process that occurs in a block, given its header and its index, which are the only parts
/// that must be read.
pub fn index(header: &Header, index: &[u8], add: impl FnMut(Identity)) -> Result<(), Damage> {
    if crc32c::crc32c(index) != header.index_crc {
        return Err(Damage::Checksum);
    }
    let (table, stored) = read_table(index, header)?;
    let mut reading = Reading::of(table[MEMBERS].raw);
    reading.add(MEMBERS, table[MEMBERS], stored)?;
    read_index(Cursor(&reading.raw), header.records, add)
}

/// Start and end of each stream.
type Spans = [(usize, usize); STREAMS];

/// Stored and uncompressed length of one stream.
#[derive(Clone, Copy, Debug, Default)]
struct Lengths {
    raw: usize,
    stored: usize,
}

/// The table of streams, and the rest of the index: the stored members.
fn read_table<'a>(index: &'a [u8], header: &Header) -> Result<([Lengths; STREAMS], &'a [u8]), Damage> {
    let mut cursor = Cursor(index);
    let mut table = [Lengths::default(); STREAMS];
    for lengths in &mut table[..entry::streams_in(header.version)] {
        *lengths = Lengths { raw: cursor.index()?, stored: cursor.index()? };
    }
    let total = table.iter().try_fold(0usize, |sum, lengths| sum.checked_add(lengths.raw));
    if total != Some(header.raw_bytes as usize) || cursor.0.len() != table[MEMBERS].stored {
        return Err(Damage::Inconsistent("a block's lengths"));
    }
    Ok((table, cursor.0))
}

thread_local! {
    /// One for each thread, because it is large: creating one takes a tenth of the time of a block.
    static ZSTD: RefCell<Decompressor<'static>> = RefCell::default();
}

/// Streams that are being read from a block.
struct Reading {
    raw: Vec<u8>,
    spans: Spans,
}

impl Reading {
    /// Allocates memory for `raw_bytes` bytes of streams; the lengths must have been checked.
    fn of(raw_bytes: usize) -> Self {
        Self { raw: Vec::with_capacity(raw_bytes), spans: [(0, 0); STREAMS] }
    }

    fn add(&mut self, stream: usize, lengths: Lengths, stored: &[u8]) -> Result<(), Damage> {
        let start = self.raw.len();
        // Equal lengths mean that the stream is stored uncompressed: a zstd frame is only used if it is shorter.
        if lengths.stored == lengths.raw {
            self.raw.extend_from_slice(stored);
        } else {
            self.raw.resize(start + lengths.raw, 0);
            if decompress(stored, &mut self.raw[start..]) != Some(lengths.raw) {
                return Err(Damage::Inconsistent("a block's body does not decompress"));
            }
        }
        self.spans[stream] = (start, start + lengths.raw);
        Ok(())
    }
}

/// Decompresses a zstd frame into `to`, which must be large enough; returns the number of bytes.
fn decompress(stored: &[u8], to: &mut [u8]) -> Option<usize> {
    ZSTD.with_borrow_mut(|zstd| zstd.decompress_to_buffer(stored, to).ok())
}

/// The samples of a block, in order. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Samples {
    state: State,
    columns: Columns,
    raw: Vec<u8>,
    /// The remaining part of each stream, as ranges in `raw`.
    spans: Spans,
    left: u32,
    /// Damage after the last sample, if already known.
    damage: Option<Damage>,
}

impl Samples {
    /// Removes the data of processes with other ids.
    fn focus(&mut self, pids: &[u32]) {
        let cursors: Cursors = self.spans.map(|(start, end)| Cursor(&self.raw[start..end]));
        let focused = Focused::of(cursors, self.left, self.columns, pids);
        for (stream, bytes) in focused.streams {
            let start = self.raw.len();
            // The original stream stays in `raw`, unused: the span of the stream now points to the new bytes.
            self.raw.extend(bytes);
            self.spans[stream] = (start, self.raw.len());
        }
        (self.left, self.damage) = (focused.records, focused.damage);
    }

    /// The next sample, without copying it.
    pub fn advance(&mut self) -> Option<Result<&Sample, Damage>> {
        if self.left == 0 {
            return self.damage.take().map(Err);
        }
        self.left -= 1;
        let mut cursors: Cursors = self.spans.map(|(start, end)| Cursor(&self.raw[start..end]));
        let mut result = self.state.advance(&mut cursors, self.columns);
        if self.left == 0 && result.is_ok() && self.damage.is_none() {
            result = decoder::finish(&cursors, self.columns);
        }
        // Cursors borrow `raw`, so between samples only positions are kept.
        for ((start, end), cursor) in self.spans.iter_mut().zip(&cursors) {
            *start = *end - cursor.0.len();
        }
        if result.is_err() {
            // Later records depend on this one: end here.
            (self.left, self.damage) = (0, None);
        }
        Some(result.map(|()| &self.state.sample))
    }
}

impl Iterator for Samples {
    type Item = Result<Sample, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.advance()?.cloned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*, sample::Index};

    use super::{
        super::{encode, tests::sample},
        *,
    };
    use crate::sample::Process;

    proptest! {
        #[test]
        fn damage_hides_no_sample_of_some_processes_that_it_leaves_of_all(
            samples in collection::vec(sample(), 2..6),
            changes in collection::vec((any::<Index>(), any::<u8>()), 0..3),
            chosen: Index,
        ) {
            let block = encode(&samples, 1).unwrap();
            let mut whole = Block::parse(&block).unwrap().samples().unwrap();
            for (index, byte) in changes {
                let index = index.index(whole.raw.len());
                whole.raw[index] = byte;
            }
            let known: Vec<_> = samples.iter().flat_map(|sample| &sample.processes).collect();
            let pids: Vec<_> =
                (!known.is_empty()).then(|| chosen.get(&known).identity.pid).into_iter().collect();
            let mut few = whole.clone();
            few.focus(&pids);
            let of_these = |sample: &Sample| -> Vec<Process> {
                let wanted = |process: &&Process| pids.contains(&process.identity.pid);
                sample.processes.iter().filter(wanted).cloned().collect()
            };
            while let Some(Ok(all)) = whole.advance() {
                let few = few.advance();
                prop_assert!(matches!(few, Some(Ok(_))), "{few:?}");
                let few = few.unwrap().unwrap();
                prop_assert_eq!((of_these(few), &few.host), (of_these(all), &all.host));
            }
        }
    }
}
