//! What a block says about itself before anything is decompressed.

use super::{damage::Damage, entry::Contents, varint::Cursor};
use crate::sample::BootId;

/// What every block begins with.
pub const MAGIC: [u8; 4] = *b"MGPB";

/// Longest uncompressed body that is read: bounds what a hostile host can make a reader allocate.
pub const MAX_BODY_BYTES: usize = 64 << 20;

/// The version of the format that is written and read.
pub const VERSION: u16 = 2;

/// Length of a block's header.
pub const HEADER_BYTES: usize = 96;

/// What a block says about itself.
///
/// ```text
/// magic "MGPB" · version u16 · contents u8 · 0 u8 · body length u32 · records u32 · uncompressed length u32
/// longest gap ms u32 · first sequence u64 · earliest wall_ms i64 · latest wall_ms i64
/// first boottime_ns u64 · last boottime_ns u64 · boot id [16] · index length u32 · CRC32C of the index u32
/// CRC32C of the body u32 · CRC32C of the header up to here u32
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// What is in it.
    pub contents: Contents,
    /// Bytes of the body as stored, the index included.
    pub body_bytes: u32,
    /// Samples in the block.
    pub records: u32,
    /// Bytes of all streams when decompressed.
    pub raw_bytes: u32,
    /// Longest time between two samples of the block that is more than the interval, ms; 0 if there is none.
    pub longest_gap_ms: u32,
    /// Number of the first sample in its history; the others follow without a hole.
    pub first_sequence: u64,
    /// Earliest wall time of a sample, ms since the Unix epoch.
    pub earliest_wall_ms: i64,
    /// Latest wall time of a sample.
    pub latest_wall_ms: i64,
    /// `CLOCK_BOOTTIME` of the first sample, ns.
    pub first_boottime_ns: u64,
    /// `CLOCK_BOOTTIME` of the last sample, ns.
    pub last_boottime_ns: u64,
    /// The boot that all samples are of.
    pub boot_id: BootId,
    /// Bytes of the index, which the body begins with.
    pub index_bytes: u32,
    /// Checksum of the index.
    pub index_crc: u32,
    /// Checksum of the body.
    pub body_crc: u32,
}

impl Header {
    /// Appends the header as bytes.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend([self.contents.0, 0]);
        for number in [self.body_bytes, self.records, self.raw_bytes, self.longest_gap_ms] {
            out.extend(number.to_le_bytes());
        }
        out.extend(self.first_sequence.to_le_bytes());
        out.extend(self.earliest_wall_ms.to_le_bytes());
        out.extend(self.latest_wall_ms.to_le_bytes());
        out.extend(self.first_boottime_ns.to_le_bytes());
        out.extend(self.last_boottime_ns.to_le_bytes());
        out.extend(self.boot_id.0);
        for number in [self.index_bytes, self.index_crc, self.body_crc] {
            out.extend(number.to_le_bytes());
        }
        out.extend(crc32c::crc32c(&out[start..]).to_le_bytes());
    }

    /// Reads the header that `bytes` begins with.
    pub fn parse(bytes: &[u8]) -> Result<Self, Damage> {
        let mut cursor = Cursor(bytes);
        let magic: [u8; 4] = cursor.array()?;
        if magic != MAGIC {
            return Err(Damage::Magic);
        }
        let found = u16::from_le_bytes(cursor.array()?);
        if found != VERSION {
            return Err(Damage::Version { found });
        }
        let [contents, reserved] = cursor.array()?;
        let header = Self {
            contents: Contents(contents),
            body_bytes: u32::from_le_bytes(cursor.array()?),
            records: u32::from_le_bytes(cursor.array()?),
            raw_bytes: u32::from_le_bytes(cursor.array()?),
            longest_gap_ms: u32::from_le_bytes(cursor.array()?),
            first_sequence: u64::from_le_bytes(cursor.array()?),
            earliest_wall_ms: i64::from_le_bytes(cursor.array()?),
            latest_wall_ms: i64::from_le_bytes(cursor.array()?),
            first_boottime_ns: u64::from_le_bytes(cursor.array()?),
            last_boottime_ns: u64::from_le_bytes(cursor.array()?),
            boot_id: BootId(cursor.array()?),
            index_bytes: u32::from_le_bytes(cursor.array()?),
            index_crc: u32::from_le_bytes(cursor.array()?),
            body_crc: u32::from_le_bytes(cursor.array()?),
        };
        let crc = u32::from_le_bytes(cursor.array()?);
        if crc != crc32c::crc32c(&bytes[..HEADER_BYTES - 4]) {
            return Err(Damage::Checksum);
        }
        header.check(reserved)?;
        Ok(header)
    }

    fn check(&self, reserved: u8) -> Result<(), Damage> {
        let sizes = self.raw_bytes as usize <= MAX_BODY_BYTES && self.index_bytes <= self.body_bytes;
        if reserved != 0 || !sizes || self.records == 0 {
            return Err(Damage::Inconsistent("a block's header"));
        }
        match self.first_sequence.checked_add(self.records.into()) {
            Some(_) => Ok(()),
            None => Err(Damage::Inconsistent("a block's sequence numbers")),
        }
    }

    /// Bytes of the whole block.
    pub fn block_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes as usize
    }

    /// Number of the last sample.
    pub fn last_sequence(&self) -> u64 {
        self.first_sequence + u64::from(self.records - 1)
    }

    /// Whether any sample can lie between two wall times, both included.
    pub fn overlaps(&self, from_ms: i64, until_ms: i64) -> bool {
        self.earliest_wall_ms <= until_ms && self.latest_wall_ms >= from_ms
    }
}
