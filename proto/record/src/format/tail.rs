//! The write-ahead tail: records that are not yet in a block, each in a frame of its own, appended and synced at
//! once. A crash can only damage the end; everything before it is intact.
//!
//! ```text
//! magic "MGPT" · version u16 · 0 u16 · boot id [16] · first sequence u64 · CRC32C u32
//! frame*: length u32 · CRC32C of header, length and record u32 · record
//! 0 u32
//! ```
//!
//! The file is created once and overwritten again and again, so that appending needs no space and no metadata of the
//! file system. Bytes after the end are left from earlier use: since a frame's checksum includes the header's, old
//! frames are never valid with a new header.

use super::{
    builder::Builder,
    damage::Damage,
    entry::Prefix,
    header::{MAX_BODY_BYTES, VERSION, check_version},
    varint::Cursor,
};
use crate::sample::BootId;

const MAGIC: [u8; 4] = *b"MGPT";

/// Length of a tail's header, in bytes.
pub const HEADER_BYTES: usize = 36;

/// Length of the end mark, in bytes; the next frame overwrites it.
pub const END_BYTES: usize = 4;

/// The header of a tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The version of the format.
    pub version: u16,
    /// The boot of all records.
    pub boot_id: BootId,
    /// Sequence number of the first record.
    pub first_sequence: u64,
}

impl Header {
    /// A tail of the current version whose first record has this sequence number.
    pub fn new(boot_id: BootId, first_sequence: u64) -> Self {
        Self { version: VERSION, boot_id, first_sequence }
    }

    /// Appends the encoded header.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend(MAGIC);
        out.extend(self.version.to_le_bytes());
        out.extend([0; 2]);
        out.extend(self.boot_id.0);
        out.extend(self.first_sequence.to_le_bytes());
        out.extend(crc32c::crc32c(&out[start..]).to_le_bytes());
    }

    /// Parses the header at the beginning of `bytes`; `None` if the file was never written to.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Damage> {
        let head = bytes.get(..HEADER_BYTES).ok_or(Damage::Cut)?;
        if head.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let mut cursor = Cursor(head);
        let magic: [u8; 4] = cursor.array()?;
        if magic != MAGIC {
            return Err(Damage::Magic);
        }
        let version = check_version(u16::from_le_bytes(cursor.array()?))?;
        cursor.bytes(2)?;
        let boot_id = BootId(cursor.array()?);
        let header = Self { version, boot_id, first_sequence: u64::from_le_bytes(cursor.array()?) };
        if u32::from_le_bytes(cursor.array()?) != crc32c::crc32c(&head[..HEADER_BYTES - 4]) {
            return Err(Damage::Checksum);
        }
        Ok(Some(header))
    }

    /// Start value for the checksums of frames.
    fn seed(&self) -> u32 {
        let boot = crc32c::crc32c(&self.boot_id.0);
        crc32c::crc32c_append(boot, &self.first_sequence.to_le_bytes())
    }

    /// Appends one record in its frame, and the end mark. The next frame must overwrite the mark.
    pub fn write_frame(&self, record: &[u8], out: &mut Vec<u8>) {
        let length = (record.len() as u32).to_le_bytes();
        out.extend(length);
        out.extend(self.checksum(length, record).to_le_bytes());
        out.extend(record);
        out.extend([0; END_BYTES]);
    }

    fn checksum(&self, length: [u8; 4], record: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(self.seed(), &length), record)
    }

    /// Removes one complete frame from the front of `bytes` and returns its record; `None` at the end mark. At the
    /// mark and on damage, `bytes` is unchanged.
    pub fn read_frame<'a>(&self, bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Damage> {
        let mut cursor = Cursor(bytes);
        let length: [u8; 4] = cursor.array()?;
        if length == [0; 4] {
            return Ok(None);
        }
        let crc = u32::from_le_bytes(cursor.array()?);
        let count = u32::from_le_bytes(length) as usize;
        if count > MAX_BODY_BYTES {
            return Err(Damage::Inconsistent("a record's length"));
        }
        let record = cursor.bytes(count)?;
        if self.checksum(length, record) != crc {
            return Err(Damage::Checksum);
        }
        *bytes = cursor.0;
        Ok(Some(record))
    }
}

/// The content of a tail file, up to any damage.
#[derive(Debug)]
pub struct Scan {
    /// The records, ready to become a block.
    pub builder: Builder,
    /// Length of the intact part, in bytes, without the end mark.
    pub good_bytes: usize,
    /// Wall time of the newest record, ms since the Unix epoch.
    pub newest_wall_ms: Option<i64>,
    /// Why reading ended before the end mark.
    pub damage: Option<Damage>,
}

/// Reads a tail file; `None` if it was never written to. Fails only if the header cannot be read.
pub fn scan(bytes: &[u8]) -> Result<Option<Scan>, Damage> {
    let Some(header) = Header::parse(bytes)? else { return Ok(None) };
    let mut scan = Scan {
        builder: Builder::new(header.boot_id, header.first_sequence),
        good_bytes: HEADER_BYTES,
        newest_wall_ms: None,
        damage: None,
    };
    let mut rest = &bytes[HEADER_BYTES..];
    loop {
        let read = header.read_frame(&mut rest).and_then(|record| match record {
            Some(record) => {
                scan.builder.push_from(header.version, record).and_then(|()| Prefix::parse(record)).map(Some)
            }
            None => Ok(None),
        });
        match read {
            Ok(Some(prefix)) => {
                scan.good_bytes = bytes.len() - rest.len();
                scan.newest_wall_ms = Some(prefix.wall_ms);
            }
            Ok(None) => return Ok(Some(scan)),
            Err(damage) => {
                scan.damage = Some(damage);
                return Ok(Some(scan));
            }
        }
    }
}
