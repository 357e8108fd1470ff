//! Whether the record is being written, up to when, and how large it is.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use crate::{Block, Decoder, Found, Sample, tail, walk};

use super::{Error, TAILS, lock, segment, while_trying};

/// The record at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// A recorder is writing.
    pub running: bool,
    /// The newest sample.
    pub newest: Option<Sample>,
    /// Bytes on disk.
    pub bytes: u64,
}

/// Looks at the record in `directory`, which need not exist.
pub fn status(directory: &Path) -> Result<Status, Error> {
    let running = lock::is_held(directory).map_err(while_trying("look at the lock in", directory))?;
    let bytes = total_bytes(directory).map_err(while_trying("list", directory))?;
    let newest = match newest_in_tails(directory) {
        Some(sample) => Some(sample),
        None => newest_in_segments(directory).map_err(while_trying("list", directory))?,
    };
    Ok(Status { running, newest, bytes })
}

fn total_bytes(directory: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    // A file may be shed while it is counted.
    Ok(entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum())
}

/// A recorder that runs has its newest sample here.
fn newest_in_tails(directory: &Path) -> Option<Sample> {
    let newest = |name| newest_in_tail(&directory.join(name));
    TAILS.into_iter().filter_map(newest).max_by_key(|(sequence, _)| *sequence).map(|(_, sample)| sample)
}

/// The newest sample of a tail, and the number of the tail's first.
fn newest_in_tail(path: &Path) -> Option<(u64, Sample)> {
    let bytes = fs::read(path).ok()?;
    let header = tail::Header::parse(&bytes).ok()??;
    let mut rest = &bytes[tail::HEADER_BYTES..];
    let mut decoder = Decoder::new(header.boot_id);
    while let Ok(Some(record)) = header.read_frame(&mut rest) {
        decoder.decode(record).ok()?;
    }
    Some((header.first_sequence, decoder.into_newest()?))
}

fn newest_in_segments(directory: &Path) -> io::Result<Option<Sample>> {
    let Some(newest) = segment::list(directory)?.pop() else { return Ok(None) };
    let mut bytes = vec![0; newest.extent.bytes as usize];
    if File::open(&newest.path)?.read_exact_at(&mut bytes, 0).is_err() {
        return Ok(None);
    }
    let blocks = walk(&bytes).filter_map(|found| match found {
        Found::Block(_, block) => Some(block),
        Found::Damaged(..) => None,
    });
    Ok(blocks.last().and_then(|block| newest_of(&block)))
}

fn newest_of(block: &Block) -> Option<Sample> {
    block.samples().ok()?.last()?.ok()
}
