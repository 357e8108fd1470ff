//! A few processes out of all: what belongs to the others is passed over, not decoded.

use super::{
    Columns, Damage, Process,
    column::NUMBERS,
    decoder::{Cursors, Places, next_active, read_changes, read_text},
    process::places_of,
    record::{COLUMNS, TEXTS},
};

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

/// The processes that are wanted, and how far the streams of numbers lag behind.
#[derive(Clone, Debug)]
pub(super) struct Focus {
    pids: Vec<u32>,
    /// Values of each column that belong to others and were not passed over yet.
    behind: [usize; NUMBERS],
    /// The newest of these, a byte a column: counted for eight columns at once.
    newest: [u64; NUMBERS / 8],
    /// How many processes are in `newest`, so that no byte overflows.
    counted: u8,
    /// Places of the wanted among all, in order; kept for its memory.
    places: Vec<usize>,
}

impl Focus {
    pub(super) fn new(pids: &[u32]) -> Self {
        Self {
            pids: pids.to_vec(),
            behind: [0; NUMBERS],
            newest: [0; NUMBERS / 8],
            counted: 0,
            places: Vec::new(),
        }
    }

    /// Goes on to the next sample, of which the members are known.
    pub(super) fn read(
        &mut self,
        processes: &mut [Process],
        cursors: &mut Cursors,
        columns: Columns,
    ) -> Result<(), Damage> {
        places_of(processes, &self.pids, &mut self.places);
        let mut wanted = 0;
        let mut places = Places::new(processes.len());
        while let Some((index, changes)) = next_active(&mut places, cursors)? {
            let changes = columns.among(changes);
            while self.places.get(wanted).is_some_and(|place| *place < index) {
                wanted += 1;
            }
            if self.places.get(wanted) == Some(&index) {
                self.catch_up(changes, cursors)?;
                read_changes(&mut processes[index], changes, cursors, columns)?;
            } else {
                self.pass(changes, cursors)?;
            }
        }
        Ok(())
    }

    /// Passes over everything that is left.
    pub(super) fn finish(&mut self, cursors: &mut Cursors) -> Result<(), Damage> {
        self.catch_up((1 << NUMBERS) - 1, cursors)
    }

    #[inline]
    fn pass(&mut self, changes: u32, cursors: &mut Cursors) -> Result<(), Damage> {
        for (eight, changes) in self.newest.iter_mut().zip(changes.to_le_bytes()) {
            *eight += BYTES[usize::from(changes)];
        }
        self.counted += 1;
        if self.counted == u8::MAX {
            self.count();
        }
        let texts = (changes >> NUMBERS).count_ones();
        (0..texts).try_for_each(|_| read_text(&mut cursors[TEXTS]).map(drop))
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
        let mut left = columns & ((1 << NUMBERS) - 1);
        while left != 0 {
            let column = left.trailing_zeros() as usize;
            left &= left - 1;
            cursors[COLUMNS + column].pass(std::mem::take(&mut self.behind[column]))?;
        }
        Ok(())
    }
}
