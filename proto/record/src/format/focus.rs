//! Restricts a block to a few processes: removes the data of all others from the streams before these are decoded.
//! The thread that decompresses the streams can do this.

use std::mem;

use super::{
    column::{Columns, NUMBERS, bits},
    damage::Damage,
    decoder::{Active, Cursors, all_read, read_members, read_text},
    entry::{self, ACTIVE, CHANGES, COLUMNS, GROUPS, MEMBERS, STREAMS, TEXTS},
    varint::{self, Cursor},
};
use crate::sample::{Identity, places_in};

/// For each byte, its bits as bytes.
static BYTES: [u64; 256] = {
    let mut bytes = [0; 256];
    let mut number = 0;
    while number < 256 {
        let mut bit = 0;
        while bit < 8 {
            bytes[number] |= (number as u64 >> bit & 1) << (8 * bit);
            bit += 1;
        }
        number += 1;
    }
    bytes
};

/// Streams that contain only the identities of other processes.
#[derive(Debug)]
pub(super) struct Focused {
    /// Replacement streams, with their positions.
    pub(super) streams: Vec<(usize, Vec<u8>)>,
    /// Number of records before the damage.
    pub(super) records: u32,
    /// Why there are no more records.
    pub(super) damage: Option<Damage>,
}

impl Focused {
    /// Filters the streams of `records` records; only those of `columns` are present.
    pub(super) fn of(mut cursors: Cursors, records: u32, columns: Columns, pids: &[u32]) -> Self {
        let mut focus = Focus::new(pids);
        let mut good = 0;
        let read = (1..=records).try_for_each(|record| {
            focus.read(&mut cursors, columns)?;
            if record == records {
                focus.finish(&mut cursors, columns)?;
            }
            good = record;
            Ok(())
        });
        let streams = focus.kept.into_iter().enumerate();
        let streams = streams.filter(|(stream, _)| is_replaced(*stream, columns)).collect();
        Self { streams, records: good, damage: read.err() }
    }
}

fn is_replaced(stream: usize, columns: Columns) -> bool {
    matches!(stream, ACTIVE | CHANGES | TEXTS | COLUMNS..GROUPS) && entry::is_wanted(stream, columns)
}

/// The columns of numbers in this set.
fn numbers(columns: u32) -> u32 {
    columns & ((1 << NUMBERS) - 1)
}

/// The processes to keep, and how far the streams of numbers lag behind.
#[derive(Debug)]
struct Focus<'a> {
    pids: &'a [u32],
    members: Vec<Identity>,
    kept: [Vec<u8>; STREAMS],
    /// For each column, the number of other processes' values that must still be skipped.
    behind: [usize; NUMBERS],
    /// The latest part of these numbers, with a byte for each column: counts eight columns at once.
    newest: [u64; NUMBERS / 8],
    /// Number of processes counted in `newest`, so that no byte overflows.
    counted: u8,
    /// Indexes of processes, kept to reuse the memory.
    gone: Vec<usize>,
    wanted: Vec<usize>,
}

impl<'a> Focus<'a> {
    fn new(pids: &'a [u32]) -> Self {
        Self {
            pids,
            members: Vec::new(),
            kept: [const { Vec::new() }; STREAMS],
            behind: [0; NUMBERS],
            newest: [0; NUMBERS / 8],
            counted: 0,
            gone: Vec::new(),
            wanted: Vec::new(),
        }
    }

    /// Reads the next record.
    fn read(&mut self, cursors: &mut Cursors, columns: Columns) -> Result<(), Damage> {
        let members = &mut cursors[MEMBERS];
        read_members(&mut self.members, &mut self.gone, members, |identity| *identity, |identity| identity)?;
        places_in(&self.members, |identity| identity.pid, self.pids, &mut self.wanted);
        let wanted = mem::take(&mut self.wanted);
        let mut places = wanted.iter().copied();
        let mut place = places.next();
        let mut next = 0;
        let mut active = Active::begin(cursors, self.members.len());
        while let Some((index, changes)) = active.next()? {
            let changes = columns.among(changes);
            while place.is_some_and(|place| place < index) {
                place = places.next();
            }
            if place == Some(index) {
                // Steps count from the last kept process: the others get no entry.
                varint::write(&mut self.kept[ACTIVE], (index - next + 1) as u64);
                varint::write(&mut self.kept[CHANGES], changes.into());
                next = index + 1;
                self.keep(changes, cursors)?;
            } else {
                self.pass(changes, cursors)?;
            }
        }
        active.end(cursors);
        self.kept[ACTIVE].push(0);
        self.wanted = wanted;
        Ok(())
    }

    /// Checks that the streams end with the last record.
    fn finish(&mut self, cursors: &mut Cursors, columns: Columns) -> Result<(), Damage> {
        self.catch_up(u32::MAX, cursors)?;
        all_read(cursors, |stream| is_replaced(stream, columns))
    }

    fn keep(&mut self, changes: u32, cursors: &mut Cursors) -> Result<(), Damage> {
        self.catch_up(changes, cursors)?;
        for stream in bits(numbers(changes)).map(|column| COLUMNS + column) {
            copy(&mut self.kept[stream], &mut cursors[stream], |cursor| cursor.pass(1))?;
        }
        let texts = (changes >> NUMBERS).count_ones();
        copy(&mut self.kept[TEXTS], &mut cursors[TEXTS], |cursor| pass_texts(cursor, texts))
    }

    #[inline]
    fn pass(&mut self, changes: u32, cursors: &mut Cursors) -> Result<(), Damage> {
        // Do not skip the numbers now: count them per column, and skip them together in `catch_up`.
        for (eight, changes) in self.newest.iter_mut().zip(changes.to_le_bytes()) {
            *eight += BYTES[usize::from(changes)];
        }
        self.counted += 1;
        // Each byte of `newest` is at most `counted`: add them up before a byte can overflow.
        if self.counted == u8::MAX {
            self.count();
        }
        // All texts share one stream, so these are skipped at once.
        match changes >> NUMBERS {
            0 => Ok(()),
            texts => pass_texts(&mut cursors[TEXTS], texts.count_ones()),
        }
    }

    fn count(&mut self) {
        let newest = self.newest.iter().flat_map(|eight| eight.to_le_bytes());
        for (behind, newest) in self.behind.iter_mut().zip(newest) {
            *behind += usize::from(newest);
        }
        (self.newest, self.counted) = ([0; NUMBERS / 8], 0);
    }

    fn catch_up(&mut self, columns: u32, cursors: &mut Cursors) -> Result<(), Damage> {
        self.count();
        for column in bits(numbers(columns)) {
            cursors[COLUMNS + column].pass(mem::take(&mut self.behind[column]))?;
        }
        Ok(())
    }
}

/// Copies the bytes that `pass` skips.
fn copy(
    to: &mut Vec<u8>,
    cursor: &mut Cursor<'_>,
    pass: impl FnOnce(&mut Cursor<'_>) -> Result<(), Damage>,
) -> Result<(), Damage> {
    let before = cursor.0;
    pass(cursor)?;
    to.extend_from_slice(&before[..before.len() - cursor.0.len()]);
    Ok(())
}

fn pass_texts(cursor: &mut Cursor<'_>, count: u32) -> Result<(), Damage> {
    (0..count).try_for_each(|_| read_text(cursor).map(drop))
}
