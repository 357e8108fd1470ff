//! The header of a block, which is readable without decompressing anything.

use super::{damage::Damage, entry::Contents, varint::Cursor};
use crate::sample::BootId;

/// The first bytes of every block.
pub const MAGIC: [u8; 4] = *b"MGPB";

/// Maximum size of an uncompressed body, in bytes: limits how much a malicious host can make a reader allocate.
pub const MAX_BODY_BYTES: usize = 64 << 20;

/// The version of the format that is written.
pub const VERSION: u16 = 3;

/// The oldest version that is read: without the last stream.
pub(super) const OLDEST: u16 = 2;

/// Checks that this version can be read.
pub(super) fn check_version(found: u16) -> Result<u16, Damage> {
    if (OLDEST..=VERSION).contains(&found) { Ok(found) } else { Err(Damage::Version { found }) }
}

/// Length of a block's header, in bytes.
pub const HEADER_BYTES: usize = 96;

/// The header of a block.
///
/// ```text
/// magic "MGPB" · version u16 · contents u8 · 0 u8 · body length u32 · records u32 · uncompressed length u32
/// longest gap ms u32 · first sequence u64 · earliest wall_ms i64 · latest wall_ms i64
/// first boottime_ns u64 · last boottime_ns u64 · boot id [16] · index length u32 · CRC32C of the index u32
/// CRC32C of the body u32 · CRC32C of the header up to here u32
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The version of the format.
    pub version: u16,
    /// The kinds of events in the block.
    pub contents: Contents,
    /// Stored size of the body, in bytes, including the index.
    pub body_bytes: u32,
    /// Number of samples in the block.
    pub records: u32,
    /// Uncompressed size of all streams, in bytes.
    pub raw_bytes: u32,
    /// Longest gap between two samples of the block that exceeds the interval, ms; 0 if there is none.
    pub longest_gap_ms: u32,
    /// Sequence number of the first sample in its history; the others follow without gaps.
    pub first_sequence: u64,
    /// Earliest wall time of a sample, ms since the Unix epoch.
    pub earliest_wall_ms: i64,
    /// Latest wall time of a sample, ms since the Unix epoch.
    pub latest_wall_ms: i64,
    /// `CLOCK_BOOTTIME` of the first sample, ns.
    pub first_boottime_ns: u64,
    /// `CLOCK_BOOTTIME` of the last sample, ns.
    pub last_boottime_ns: u64,
    /// The boot of all samples.
    pub boot_id: BootId,
    /// Size of the index at the beginning of the body, in bytes.
    pub index_bytes: u32,
    /// Checksum of the index.
    pub index_crc: u32,
    /// Checksum of the body.
    pub body_crc: u32,
}

impl Default for Header {
    fn default() -> Self {
        Self {
            version: VERSION,
            contents: Contents::default(),
            body_bytes: 0,
            records: 0,
            raw_bytes: 0,
            longest_gap_ms: 0,
            first_sequence: 0,
            earliest_wall_ms: 0,
            latest_wall_ms: 0,
            first_boottime_ns: 0,
            last_boottime_ns: 0,
            boot_id: BootId::default(),
            index_bytes: 0,
            index_crc: 0,
            body_crc: 0,
        }
    }
}

impl Header {
    /// Appends the encoded header.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend(MAGIC);
        out.extend(self.version.to_le_bytes());
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

    /// Parses the header at the beginning of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Damage> {
        let mut cursor = Cursor(bytes);
        let magic: [u8; 4] = cursor.array()?;
        if magic != MAGIC {
            return Err(Damage::Magic);
        }
        let version = check_version(u16::from_le_bytes(cursor.array()?))?;
        let [contents, reserved] = cursor.array()?;
        let header = Self {
            version,
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

    /// Size of the whole block, in bytes.
    pub fn block_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes as usize
    }

    /// Sequence number of the last sample.
    pub fn last_sequence(&self) -> u64 {
        self.first_sequence + u64::from(self.records - 1)
    }

    /// Whether any sample may be between two wall times, both inclusive.
    pub fn overlaps(&self, from_ms: i64, until_ms: i64) -> bool {
        self.earliest_wall_ms <= until_ms && self.latest_wall_ms >= from_ms
    }
}
