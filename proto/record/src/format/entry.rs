//! The encoding of one sample: its changes since the previous sample, in streams that each contain one kind of data.
//!
//! ```text
//! key u8 · contents u8 · interval_ms u32 · wall_ms i64 · boottime_ns u64     fixed: readable without decoding
//! length of each stream
//! streams, one after the other:
//!   members     (index step + 1)* 0 of processes that are gone · count · new ones: pid step, started_ns
//!   head        the sample's own numbers
//!   host        a bit for each counter that changed · their values
//!   devices     disks and file systems
//!   active      (index step + 1)* 0 of processes with any change
//!   changes     for each of these, a bit for each column that changed
//!   exits       process exits
//!   events      events
//!   texts       values of the columns of text
//!   16 columns  values of one column of numbers each
//!   groups      control groups; since version 3 of the format
//! ```
//!
//! An inactive process takes no bytes. A `key` record does not depend on earlier ones. In a block, each stream of all
//! records is stored contiguously: similar data compresses well, and a reader decompresses only the columns it needs.

use super::{
    column::{Columns, NUMBERS},
    damage::Damage,
    varint::{self, Cursor},
};
use crate::sample::Sample;

/// Positions of the streams.
pub(super) const MEMBERS: usize = 0;
pub(super) const HEAD: usize = 1;
pub(super) const HOST: usize = 2;
pub(super) const DEVICES: usize = 3;
pub(super) const ACTIVE: usize = 4;
pub(super) const CHANGES: usize = 5;
pub(super) const EXITS: usize = 6;
pub(super) const EVENTS: usize = 7;
pub(super) const TEXTS: usize = 8;
/// Position of the first column of numbers.
pub(super) const COLUMNS: usize = 9;
/// Position of the control groups.
pub(super) const GROUPS: usize = COLUMNS + NUMBERS;
/// Number of streams.
pub(super) const STREAMS: usize = GROUPS + 1;

/// Number of streams in a version of the format.
pub(super) fn streams_in(version: u16) -> usize {
    if version < 3 { GROUPS } else { STREAMS }
}

/// Whether a reader of these columns needs a stream.
pub(super) fn is_wanted(stream: usize, columns: Columns) -> bool {
    match stream {
        GROUPS => columns.has_groups(),
        COLUMNS.. => columns.has(stream - COLUMNS),
        _ => true,
    }
}

/// Length of a record's fixed part, in bytes.
const PREFIX_BYTES: usize = 22;

/// The kinds of events in a record or block, for searches: a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents(pub u8);

impl Contents {
    /// Kernel messages.
    pub const KERNEL: Self = Self(1);
    /// Notes of the recorder.
    pub const NOTES: Self = Self(1 << 1);
    /// Process exits.
    pub const EXITS: Self = Self(1 << 2);
    /// An out-of-memory kill was counted on this host ([`Sample::own_kills`]).
    pub const OOM_KILLS: Self = Self(1 << 3);

    /// Whether this set contains anything of `other`.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The union with `other`.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The fixed part at the beginning of every record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// Does not depend on earlier records: a block begins here.
    pub key: bool,
    /// The kinds of events in the record.
    pub contents: Contents,
    /// Planned time between samples, ms.
    pub interval_ms: u32,
    /// Wall time, ms since the Unix epoch.
    pub wall_ms: i64,
    /// `CLOCK_BOOTTIME`, ns.
    pub boottime_ns: u64,
}

impl Prefix {
    pub(super) fn of(sample: &Sample, key: bool, contents: Contents) -> Self {
        let Sample { interval_ms, wall_ms, boottime_ns, .. } = *sample;
        Self { key, contents, interval_ms, wall_ms, boottime_ns }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend([u8::from(self.key), self.contents.0]);
        out.extend(self.interval_ms.to_le_bytes());
        out.extend(self.wall_ms.to_le_bytes());
        out.extend(self.boottime_ns.to_le_bytes());
    }

    /// Parses the beginning of `record`.
    pub fn parse(record: &[u8]) -> Result<Self, Damage> {
        let mut cursor = Cursor(record);
        let [key, contents] = cursor.array()?;
        if key > 1 {
            return Err(Damage::Inconsistent("a record is of an unknown kind"));
        }
        Ok(Self {
            key: key == 1,
            contents: Contents(contents),
            interval_ms: u32::from_le_bytes(cursor.array()?),
            wall_ms: i64::from_le_bytes(cursor.array()?),
            boottime_ns: u64::from_le_bytes(cursor.array()?),
        })
    }
}

/// Appends a complete record.
pub(super) fn write(prefix: &Prefix, streams: &[Vec<u8>; STREAMS], out: &mut Vec<u8>) {
    prefix.write(out);
    for stream in streams {
        varint::write(out, stream.len() as u64);
    }
    for stream in streams {
        out.extend_from_slice(stream);
    }
}

/// The streams of one complete record in a version of the format; those that it does not have are empty.
pub(super) fn streams(record: &[u8], version: u16) -> Result<[&[u8]; STREAMS], Damage> {
    let mut cursor = Cursor(record);
    cursor.bytes(PREFIX_BYTES)?;
    let mut lengths = [0; STREAMS];
    for length in &mut lengths[..streams_in(version)] {
        *length = cursor.index()?;
    }
    let mut streams = [[].as_slice(); STREAMS];
    for (stream, length) in streams.iter_mut().zip(lengths) {
        *stream = cursor.bytes(length)?;
    }
    match cursor.0 {
        [] => Ok(streams),
        _ => Err(Damage::Inconsistent("a record holds more than its header says")),
    }
}
