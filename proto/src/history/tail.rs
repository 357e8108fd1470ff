//! The write-ahead tail: records that are not yet a block, each in a frame of its own, appended and synced as
//! they come. A crash can only cut the end; what stands before it is whole.
//!
//! ```text
//! magic "MGPT" · version u16 · 0 u16 · boot id [16] · first sequence u64 · CRC32C u32
//! frame*: length u32 · CRC32C of length and record u32 · record
//! ```

use super::{BootId, Builder, Damage, MAX_BODY_BYTES, VERSION, record, varint::Cursor};

const MAGIC: [u8; 4] = *b"MGPT";

/// Length of a tail's header.
pub const HEADER_BYTES: usize = 36;

/// What a tail begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The boot that all records are of.
    pub boot_id: BootId,
    /// Number of the first record.
    pub first_sequence: u64,
}

impl Header {
    /// The header as bytes.
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend([0; 2]);
        out.extend(self.boot_id.0);
        out.extend(self.first_sequence.to_le_bytes());
        out.extend(crc32c::crc32c(&out).to_le_bytes());
        out
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
        cursor.bytes(2)?;
        let header =
            Self { boot_id: BootId(cursor.array()?), first_sequence: u64::from_le_bytes(cursor.array()?) };
        if u32::from_le_bytes(cursor.array()?) != crc32c::crc32c(&bytes[..HEADER_BYTES - 4]) {
            return Err(Damage::Checksum);
        }
        Ok(header)
    }
}

/// Appends one record in its frame.
pub fn write_frame(record: &[u8], out: &mut Vec<u8>) {
    let length = (record.len() as u32).to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&length), record);
    out.extend(length);
    out.extend(crc.to_le_bytes());
    out.extend(record);
}

/// Takes one whole frame from the front of `bytes` and returns its record. `bytes` stays where it was on damage.
pub fn read_frame<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Damage> {
    let mut cursor = Cursor(bytes);
    let length: [u8; 4] = cursor.array()?;
    let crc = u32::from_le_bytes(cursor.array()?);
    let count = u32::from_le_bytes(length) as usize;
    if count > MAX_BODY_BYTES {
        return Err(Damage::Inconsistent("a record's length"));
    }
    let record = cursor.bytes(count)?;
    if crc32c::crc32c_append(crc32c::crc32c(&length), record) != crc {
        return Err(Damage::Checksum);
    }
    *bytes = cursor.0;
    Ok(record)
}

/// Wall time of a record, ms since the Unix epoch.
pub fn wall_ms(record: &[u8]) -> Result<i64, Damage> {
    record::times(record).map(|(wall_ms, _)| wall_ms)
}

/// A whole tail file, as far as it can be read.
#[derive(Debug)]
pub struct Scan {
    /// The records, ready to become a block.
    pub builder: Builder,
    /// Length of the part that is whole.
    pub good_bytes: usize,
    /// What ended the reading, if it was not the end of the file.
    pub damage: Option<Damage>,
}

/// Reads a tail file. Fails only if its header cannot be read.
pub fn scan(bytes: &[u8]) -> Result<Scan, Damage> {
    let header = Header::parse(bytes)?;
    let mut builder = Builder::new(header.boot_id, header.first_sequence);
    let mut rest = &bytes[HEADER_BYTES..];
    let mut damage = None;
    while !rest.is_empty() {
        let before = rest;
        match read_frame(&mut rest).and_then(|record| builder.push(record)) {
            Ok(()) => {}
            Err(error) => {
                damage = Some(error);
                rest = before;
                break;
            }
        }
    }
    Ok(Scan { builder, good_bytes: bytes.len() - rest.len(), damage })
}
