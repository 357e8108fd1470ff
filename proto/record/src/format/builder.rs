//! Builds a block, record by record.

use std::io;

use zstd::{bulk::Compressor, zstd_safe::CParameter};

use super::{
    damage::Damage,
    encoder::{Encoder, Limits},
    entry::{self, MEMBERS, Prefix, STREAMS},
    header::{HEADER_BYTES, Header, MAX_BODY_BYTES, VERSION},
    varint::{self},
};
use crate::sample::{BootId, Sample};

/// Compression level for streams: higher than usual, because it is spent only once for some hundred samples, with a
/// window small enough for the recorder's memory limit.
const LEVEL: i32 = 6;
const WINDOW_LOG: u32 = 18;

/// Number of intervals without a sample that count as a gap.
pub const GAP_INTERVALS: f64 = 1.75;

/// A block that is being filled.
#[derive(Debug)]
pub struct Builder {
    header: Header,
    interval_ms: u32,
    streams: [Vec<u8>; STREAMS],
    raw_bytes: usize,
}

impl Builder {
    /// An empty block of one boot, whose first sample gets this sequence number.
    pub fn new(boot_id: BootId, first_sequence: u64) -> Self {
        Self {
            header: Header { boot_id, first_sequence, ..Header::default() },
            interval_ms: 0,
            streams: std::array::from_fn(|_| Vec::new()),
            raw_bytes: 0,
        }
    }

    /// Adds the output of [`Encoder::encode`]. The first record must be a key, and no other may be one.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Damage> {
        self.push_from(VERSION, bytes)
    }

    /// The same for a record in another version of the format; the block is of the current one.
    pub(super) fn push_from(&mut self, version: u16, bytes: &[u8]) -> Result<(), Damage> {
        let prefix = Prefix::parse(bytes)?;
        if prefix.key != (self.header.records == 0) {
            return Err(Damage::Inconsistent("a block must have exactly one key, at its beginning"));
        }
        let streams = entry::streams(bytes, version)?;
        let length = streams.iter().map(|stream| stream.len()).sum::<usize>();
        if self.raw_bytes + length > MAX_BODY_BYTES {
            return Err(Damage::Inconsistent("a block would be too large"));
        }
        // A reader adds pushed records to a number from its input; Header::parse has the same check.
        if self.header.first_sequence.checked_add(u64::from(self.header.records) + 1).is_none() {
            return Err(Damage::Inconsistent("a block's sequence numbers"));
        }
        self.note(&prefix);
        self.raw_bytes += length;
        for (all, one) in self.streams.iter_mut().zip(streams) {
            all.extend_from_slice(one);
        }
        Ok(())
    }

    fn note(&mut self, prefix: &Prefix) {
        let header = &mut self.header;
        if header.records == 0 {
            header.earliest_wall_ms = prefix.wall_ms;
            header.latest_wall_ms = prefix.wall_ms;
            header.first_boottime_ns = prefix.boottime_ns;
        } else {
            let elapsed_ms = prefix.boottime_ns.saturating_sub(header.last_boottime_ns) / 1_000_000;
            let interval_ms = self.interval_ms.max(prefix.interval_ms);
            if elapsed_ms as f64 > GAP_INTERVALS * f64::from(interval_ms) {
                let gap_ms = u32::try_from(elapsed_ms).unwrap_or(u32::MAX);
                header.longest_gap_ms = header.longest_gap_ms.max(gap_ms);
            }
        }
        header.earliest_wall_ms = header.earliest_wall_ms.min(prefix.wall_ms);
        header.latest_wall_ms = header.latest_wall_ms.max(prefix.wall_ms);
        header.last_boottime_ns = prefix.boottime_ns;
        header.contents = header.contents.with(prefix.contents);
        header.records += 1;
        self.interval_ms = prefix.interval_ms;
    }

    /// The block's header so far, without lengths and checksums.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The boot of all samples.
    pub fn boot_id(&self) -> BootId {
        self.header.boot_id
    }

    /// Number of samples so far.
    pub fn records(&self) -> u32 {
        self.header.records
    }

    /// Uncompressed size so far, in bytes.
    pub fn raw_bytes(&self) -> usize {
        self.raw_bytes
    }

    /// Sequence number of the first sample.
    pub fn first_sequence(&self) -> u64 {
        self.header.first_sequence
    }

    /// Sequence number of the next sample.
    pub fn next_sequence(&self) -> u64 {
        self.header.first_sequence + u64::from(self.header.records)
    }

    /// Appends the finished block to `out`, unless it is empty. Fails only without memory.
    pub fn seal(&self, packer: &mut Packer, out: &mut Vec<u8>) -> io::Result<()> {
        if self.header.records == 0 {
            return Ok(());
        }
        packer.pack(&self.streams)?;
        self.write(&packer.body, packer.index_bytes, out);
        Ok(())
    }

    /// The block without compression, for immediate reading.
    pub fn stored(&self) -> Vec<u8> {
        let (mut body, mut out) = (Vec::with_capacity(self.raw_bytes), Vec::new());
        if self.header.records == 0 {
            return out;
        }
        let lengths = self.streams.each_ref().map(Vec::len);
        let index_bytes = write_table(&self.streams, &lengths, &mut body);
        self.streams.iter().for_each(|stream| body.extend_from_slice(stream));
        self.write(&body, index_bytes, &mut out);
        out
    }

    fn write(&self, body: &[u8], index_bytes: usize, out: &mut Vec<u8>) {
        let header = Header {
            raw_bytes: self.raw_bytes as u32,
            body_bytes: body.len() as u32,
            index_bytes: index_bytes as u32,
            index_crc: crc32c::crc32c(&body[..index_bytes]),
            body_crc: crc32c::crc32c(body),
            ..self.header
        };
        out.reserve(HEADER_BYTES + body.len());
        header.write(out);
        out.extend_from_slice(body);
    }

    /// Empties the block for the following samples, and keeps its memory.
    pub fn clear(&mut self) {
        let first_sequence = self.next_sequence();
        self.restart(first_sequence);
    }

    /// Empties the block for samples that begin with this sequence number, and keeps its memory.
    pub fn restart(&mut self, first_sequence: u64) {
        self.header = Header { boot_id: self.header.boot_id, first_sequence, ..Header::default() };
        self.streams.iter_mut().for_each(Vec::clear);
        self.raw_bytes = 0;
    }
}

/// Compresses blocks, and reuses its memory.
pub struct Packer {
    zstd: Compressor<'static>,
    stored: Vec<u8>,
    lengths: [usize; STREAMS],
    body: Vec<u8>,
    index_bytes: usize,
}

impl Packer {
    /// Fails only without memory.
    pub fn new() -> io::Result<Self> {
        let mut zstd = Compressor::new(LEVEL)?;
        zstd.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
        Ok(Self { zstd, stored: Vec::new(), lengths: [0; STREAMS], body: Vec::new(), index_bytes: 0 })
    }

    fn pack(&mut self, streams: &[Vec<u8>; STREAMS]) -> io::Result<()> {
        self.stored.clear();
        for (stream, length) in streams.iter().zip(&mut self.lengths) {
            *length = store(&mut self.zstd, stream, &mut self.stored)?;
        }
        self.body.clear();
        self.index_bytes = write_table(streams, &self.lengths, &mut self.body);
        self.body.extend_from_slice(&self.stored);
        Ok(())
    }
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").field("body", &self.body.len()).finish_non_exhaustive()
    }
}

/// Begins a body with the uncompressed and stored length of all streams. Returns the end of the index: after the
/// members, which are the first stream.
fn write_table(streams: &[Vec<u8>; STREAMS], stored: &[usize; STREAMS], body: &mut Vec<u8>) -> usize {
    for (stream, stored) in streams.iter().zip(stored) {
        varint::write(body, stream.len() as u64);
        varint::write(body, *stored as u64);
    }
    body.len() + stored[MEMBERS]
}

/// Appends a stream to `out`, compressed if that is shorter; returns its stored size in bytes.
fn store(zstd: &mut Compressor, stream: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
    let start = out.len();
    let room = zstd::zstd_safe::compress_bound(stream.len());
    out.resize(start + room, 0);
    let length = zstd.compress_to_buffer(stream, &mut out[start..])?;
    if length < stream.len() {
        out.truncate(start + length);
        return Ok(length);
    }
    out.truncate(start);
    out.extend_from_slice(stream);
    Ok(stream.len())
}

/// Encodes samples of one boot as one block, beginning with number `first_sequence`; empty if there are none.
pub fn encode(samples: &[Sample], first_sequence: u64) -> io::Result<Vec<u8>> {
    let Some(first) = samples.first() else { return Ok(Vec::new()) };
    let mut builder = Builder::new(first.boot_id, first_sequence);
    let mut encoder = Encoder::new(Limits { records: u32::MAX, bytes: usize::MAX });
    let mut record = Vec::new();
    for sample in samples {
        record.clear();
        encoder.encode(sample, &mut record);
        builder.push(&record).map_err(io::Error::other)?;
    }
    let mut block = Vec::new();
    builder.seal(&mut Packer::new()?, &mut block)?;
    Ok(block)
}
