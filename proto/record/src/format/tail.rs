//! The write-ahead tail: records that are not yet a block, each in a frame of its own, appended and synced as
//! they come. A crash can only damage the end; what stands before it is whole.
//!
//! ```text
//! magic "MGPT" · version u16 · 0 u16 · boot id [16] · first sequence u64 · CRC32C u32
//! frame*: length u32 · CRC32C of header, length and record u32 · record
//! 0 u32
//! ```
//!
//! The file is made once and written over again and again, so that appending needs neither space nor metadata of the file
//! system. What stands behind the end is from before: since a frame's checksum begins with the header's, it can never
//! pass for a frame of this header.

use super::{
    builder::Builder,
    damage::Damage,
    entry::Prefix,
    header::{MAX_BODY_BYTES, VERSION},
    varint::Cursor,
};
use crate::sample::BootId;

const MAGIC: [u8; 4] = *b"MGPT";

/// Length of a tail's header.
pub const HEADER_BYTES: usize = 36;

/// Length of what marks the end; the next frame is written over it.
pub const END_BYTES: usize = 4;

/// What a tail begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The boot that all records are of.
    pub boot_id: BootId,
    /// Number of the first record.
    pub first_sequence: u64,
}

impl Header {
    /// Appends the header as bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend([0; 2]);
        out.extend(self.boot_id.0);
        out.extend(self.first_sequence.to_le_bytes());
        out.extend(crc32c::crc32c(&out[start..]).to_le_bytes());
    }

    /// Reads the header that `bytes` begins with; `None` if the file was never written to.
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
        let found = u16::from_le_bytes(cursor.array()?);
        if found != VERSION {
            return Err(Damage::Version { found });
        }
        cursor.bytes(2)?;
        let header =
            Self { boot_id: BootId(cursor.array()?), first_sequence: u64::from_le_bytes(cursor.array()?) };
        if u32::from_le_bytes(cursor.array()?) != crc32c::crc32c(&head[..HEADER_BYTES - 4]) {
            return Err(Damage::Checksum);
        }
        Ok(Some(header))
    }

    /// What the checksums of frames begin with.
    fn seed(&self) -> u32 {
        let boot = crc32c::crc32c(&self.boot_id.0);
        crc32c::crc32c_append(boot, &self.first_sequence.to_le_bytes())
    }

    /// Appends one record in its frame, and the mark of the end. The next frame belongs over the mark.
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

    /// Takes one whole frame from the front of `bytes` and returns its record; `None` at the mark of the end. `bytes`
    /// stays where it was at the end and on damage.
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

/// A whole tail file, as far as it can be read.
#[derive(Debug)]
pub struct Scan {
    /// The records, ready to become a block.
    pub builder: Builder,
    /// Length of the part that is whole, without the mark of the end.
    pub good_bytes: usize,
    /// Wall time of the newest record, ms since the Unix epoch.
    pub newest_wall_ms: Option<i64>,
    /// What ended the reading, if it was not the mark of the end.
    pub damage: Option<Damage>,
}

/// Reads a tail file; `None` if it was never written to. Fails only if its header cannot be read.
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
            Some(record) => scan.builder.push(record).and_then(|()| Prefix::parse(record)).map(Some),
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
