//! A block: records of one boot behind a checked header, compressed. A segment file is blocks and nothing else.
//!
//! ```text
//! magic "MGPB" · version u16 · 0 u16 · body length u32 · records u32 · uncompressed length u32
//! first sequence u64 · first wall_ms i64 · last wall_ms i64 · first boottime_ns u64 · last boottime_ns u64
//! boot id [16] · CRC32C of the body u32 · CRC32C of the header up to here u32
//! body: zstd of the records one after the other; the first is a key
//! ```

use zstd::bulk::{Compressor, Decompressor};

use super::{BootId, Damage, Decoder, Encoder, MAX_BODY_BYTES, Sample, record, varint::Cursor};

/// What every block begins with.
pub const MAGIC: [u8; 4] = *b"MGPB";

/// The version of the format that is written and read.
pub const VERSION: u16 = 1;

/// Length of a block's header.
pub const HEADER_BYTES: usize = 84;

/// Compression of blocks: level 3 in a window of 256 KiB keeps the recorder below its memory bound.
const LEVEL: i32 = 3;
const WINDOW_LOG: u32 = 18;

/// What a block says about itself before it is decompressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the body as stored.
    pub body_bytes: u32,
    /// Samples in the block.
    pub records: u32,
    /// Bytes of the body when decompressed.
    pub raw_bytes: u32,
    /// Number of the first sample in its history; the others follow without a hole.
    pub first_sequence: u64,
    /// Wall time of the first sample, ms since the Unix epoch.
    pub first_wall_ms: i64,
    /// Wall time of the last sample; earlier than the first if the clock was set back.
    pub last_wall_ms: i64,
    /// `CLOCK_BOOTTIME` of the first sample, ns.
    pub first_boottime_ns: u64,
    /// `CLOCK_BOOTTIME` of the last sample, ns.
    pub last_boottime_ns: u64,
    /// The boot that all samples are of.
    pub boot_id: BootId,
    /// Checksum of the body.
    pub body_crc: u32,
}

impl Header {
    fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.body_bytes as usize);
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend([0; 2]);
        out.extend(self.body_bytes.to_le_bytes());
        out.extend(self.records.to_le_bytes());
        out.extend(self.raw_bytes.to_le_bytes());
        out.extend(self.first_sequence.to_le_bytes());
        out.extend(self.first_wall_ms.to_le_bytes());
        out.extend(self.last_wall_ms.to_le_bytes());
        out.extend(self.first_boottime_ns.to_le_bytes());
        out.extend(self.last_boottime_ns.to_le_bytes());
        out.extend(self.boot_id.0);
        out.extend(self.body_crc.to_le_bytes());
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
        let reserved: [u8; 2] = cursor.array()?;
        let header = Self {
            body_bytes: u32::from_le_bytes(cursor.array()?),
            records: u32::from_le_bytes(cursor.array()?),
            raw_bytes: u32::from_le_bytes(cursor.array()?),
            first_sequence: u64::from_le_bytes(cursor.array()?),
            first_wall_ms: i64::from_le_bytes(cursor.array()?),
            last_wall_ms: i64::from_le_bytes(cursor.array()?),
            first_boottime_ns: u64::from_le_bytes(cursor.array()?),
            last_boottime_ns: u64::from_le_bytes(cursor.array()?),
            boot_id: BootId(cursor.array()?),
            body_crc: u32::from_le_bytes(cursor.array()?),
        };
        let crc = u32::from_le_bytes(cursor.array()?);
        if crc != crc32c::crc32c(&bytes[..HEADER_BYTES - 4]) {
            return Err(Damage::Checksum);
        }
        if reserved != [0; 2] || header.raw_bytes as usize > MAX_BODY_BYTES || header.records == 0 {
            return Err(Damage::Inconsistent("a block's header"));
        }
        if header.first_sequence.checked_add(header.records.into()).is_none() {
            return Err(Damage::Inconsistent("a block's sequence numbers"));
        }
        Ok(header)
    }

    /// Bytes of the whole block.
    pub fn block_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes as usize
    }

    /// Number of the last sample.
    pub fn last_sequence(&self) -> u64 {
        self.first_sequence + u64::from(self.records - 1)
    }

    /// Whether any sample can lie between two wall times, both included. A clock that was set back inside the
    /// block widens its span rather than hiding it.
    pub fn overlaps(&self, from_ms: i64, until_ms: i64) -> bool {
        let earliest = self.first_wall_ms.min(self.last_wall_ms);
        let latest = self.first_wall_ms.max(self.last_wall_ms);
        earliest <= until_ms && latest >= from_ms
    }
}

/// One block whose checksums are right.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// What the block says about itself.
    pub header: Header,
    body: &'a [u8],
}

impl<'a> Block<'a> {
    /// Checks the block that `bytes` begins with; more may follow it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Damage> {
        let header = Header::parse(bytes)?;
        let body = bytes.get(HEADER_BYTES..header.block_bytes()).ok_or(Damage::Cut)?;
        if crc32c::crc32c(body) != header.body_crc {
            return Err(Damage::Checksum);
        }
        Ok(Self { header, body })
    }

    /// Decompresses the block; its samples are then decoded one at a time.
    pub fn samples(&self) -> Result<Samples, Damage> {
        let raw = Decompressor::new()
            .and_then(|mut zstd| zstd.decompress(self.body, self.header.raw_bytes as usize))
            .map_err(|_| Damage::Inconsistent("a block's body does not decompress"))?;
        if raw.len() != self.header.raw_bytes as usize {
            return Err(Damage::Inconsistent("a block's length"));
        }
        Ok(Samples { decoder: Decoder::new(self.header.boot_id), raw, at: 0, left: self.header.records })
    }
}

/// What [`walk`] finds.
#[derive(Clone, Debug)]
pub enum Found<'a> {
    /// A good block and where it begins.
    Block(usize, Block<'a>),
    /// Bytes that are no block, from here until the next good block or the end, and why.
    Damaged(usize, Damage),
}

/// All good blocks of a segment, and the damage between them.
pub fn walk(bytes: &[u8]) -> impl Iterator<Item = Found<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = &bytes[at..];
        if rest.is_empty() {
            return None;
        }
        let start = at;
        match Block::parse(rest) {
            Ok(block) => {
                at += block.header.block_bytes();
                Some(Found::Block(start, block))
            }
            Err(damage) => {
                at += next_good_block(rest);
                Some(Found::Damaged(start, damage))
            }
        }
    })
}

/// How far into damaged bytes the next good block begins; their length if there is none.
fn next_good_block(bytes: &[u8]) -> usize {
    let candidates = (1..bytes.len()).filter(|at| bytes[*at..].starts_with(&MAGIC));
    candidates.into_iter().find(|at| Block::parse(&bytes[*at..]).is_ok()).unwrap_or(bytes.len())
}

/// The samples of a block, in order. Ends after the first error.
#[derive(Debug)]
pub struct Samples {
    decoder: Decoder,
    raw: Vec<u8>,
    at: usize,
    left: u32,
}

impl Iterator for Samples {
    type Item = Result<Sample, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return (self.at != self.raw.len()).then(|| {
                self.at = self.raw.len();
                Err(Damage::Inconsistent("a block holds more than it says"))
            });
        }
        self.left -= 1;
        let mut rest = &self.raw[self.at..];
        let sample = self.decoder.decode(&mut rest).cloned();
        self.at = self.raw.len() - rest.len();
        if sample.is_err() {
            self.left = 0;
            self.at = self.raw.len();
        }
        Some(sample)
    }
}

/// A block being filled, record by record.
#[derive(Debug)]
pub struct Builder {
    header: Header,
    raw: Vec<u8>,
}

impl Builder {
    /// An empty block of one boot, whose first sample will have this number.
    pub fn new(boot_id: BootId, first_sequence: u64) -> Self {
        Self { header: Header { boot_id, first_sequence, ..Header::default() }, raw: Vec::new() }
    }

    /// Adds what [`Encoder::encode`] wrote. The first record must be a key.
    pub fn push(&mut self, record: &[u8]) -> Result<(), Damage> {
        let (wall_ms, boottime_ns) = record::times(record)?;
        if self.raw.len() + record.len() > MAX_BODY_BYTES {
            return Err(Damage::Inconsistent("a block would be too large"));
        }
        // A reader adds what is pushed to a number that it found; Header::parse refuses the same.
        if self.header.first_sequence.checked_add(u64::from(self.header.records) + 1).is_none() {
            return Err(Damage::Inconsistent("a block's sequence numbers"));
        }
        if self.header.records == 0 {
            self.header.first_wall_ms = wall_ms;
            self.header.first_boottime_ns = boottime_ns;
        }
        self.header.last_wall_ms = wall_ms;
        self.header.last_boottime_ns = boottime_ns;
        self.header.records += 1;
        self.raw.extend(record);
        Ok(())
    }

    /// The boot that all samples are of.
    pub fn boot_id(&self) -> BootId {
        self.header.boot_id
    }

    /// Samples so far.
    pub fn records(&self) -> u32 {
        self.header.records
    }

    /// Uncompressed bytes so far.
    pub fn raw_bytes(&self) -> usize {
        self.raw.len()
    }

    /// Number of the first sample.
    pub fn first_sequence(&self) -> u64 {
        self.header.first_sequence
    }

    /// Number that the next sample will have.
    pub fn next_sequence(&self) -> u64 {
        self.header.first_sequence + u64::from(self.header.records)
    }

    /// The finished block; `None` if it would be empty. Fails only for want of memory.
    pub fn seal(&self) -> Option<std::io::Result<Vec<u8>>> {
        (self.header.records > 0).then(|| {
            let mut zstd = Compressor::new(LEVEL)?;
            zstd.set_parameter(zstd::zstd_safe::CParameter::WindowLog(WINDOW_LOG))?;
            let body = zstd.compress(&self.raw)?;
            let header = Header {
                body_bytes: body.len() as u32,
                raw_bytes: self.raw.len() as u32,
                body_crc: crc32c::crc32c(&body),
                ..self.header
            };
            let mut block = header.write();
            block.extend(body);
            Ok(block)
        })
    }

    /// Empties the block for the samples that follow, keeping its memory.
    pub fn clear(&mut self) {
        let first_sequence = self.next_sequence();
        self.header = Header { boot_id: self.header.boot_id, first_sequence, ..Header::default() };
        self.raw.clear();
    }
}

/// Samples of one boot as one block, the first numbered `first_sequence`; nothing if there are none.
pub fn encode(samples: &[Sample], first_sequence: u64) -> std::io::Result<Vec<u8>> {
    let Some(first) = samples.first() else { return Ok(Vec::new()) };
    let mut builder = Builder::new(first.boot_id, first_sequence);
    let mut encoder = Encoder::default();
    let mut record = Vec::new();
    for sample in samples {
        record.clear();
        encoder.encode(sample, &mut record);
        builder.push(&record).map_err(std::io::Error::other)?;
    }
    builder.seal().unwrap_or_else(|| Ok(Vec::new()))
}
