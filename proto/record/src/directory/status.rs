//! Whether the record is being written, up to when, and how large it is.

use std::{fs, io, path::Path};

use crate::{Block, Decoder, Header, Sample, tail};

use super::{
    Error,
    filter::Filter,
    lock,
    names::TAILS,
    segment::{self, Look, Segment},
    while_trying,
};

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
///
/// # Errors
/// The directory cannot be listed, or the lock in it cannot be looked at.
pub fn status(directory: &Path) -> Result<Status, Error> {
    let running = lock::is_held(directory).map_err(while_trying("look at the lock in", directory))?;
    Ok(Status { running, newest: newest(directory)?, bytes: total_bytes(directory)? })
}

/// The newest sample of the record in `directory`, which need not exist.
///
/// # Errors
/// The directory cannot be listed.
pub fn newest(directory: &Path) -> Result<Option<Sample>, Error> {
    let mut newest = newest_in_tails(directory);
    for segment in segment::list(directory).map_err(while_trying("list", directory))?.iter().rev() {
        let number = newest.as_ref().map(|(number, _)| *number);
        // A recorder that runs has its newest sample in a tail; segments are looked at for those that do not.
        if number.is_some() && last_number(&segment.path) <= number {
            break;
        }
        newest = newest_in_segment(&segment.path).into_iter().chain(newest).max_by_key(|(number, _)| *number);
    }
    Ok(newest.map(|(_, sample)| sample))
}

/// Bytes of all files in `directory`, which need not exist.
///
/// # Errors
/// The directory cannot be listed.
pub fn total_bytes(directory: &Path) -> Result<u64, Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(while_trying("list", directory)(error)),
    };
    // A file may be shed while it is counted.
    Ok(entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum())
}

/// The newest sample in the tails and its number.
fn newest_in_tails(directory: &Path) -> Option<(u64, Sample)> {
    let newest = |name| newest_in_tail(&directory.join(name));
    TAILS.into_iter().filter_map(newest).max_by_key(|(number, _)| *number)
}

fn newest_in_tail(path: &Path) -> Option<(u64, Sample)> {
    let bytes = fs::read(path).ok()?;
    let header = tail::Header::parse(&bytes).ok()??;
    let mut rest = &bytes[tail::HEADER_BYTES..];
    let mut decoder = Decoder::new(header.boot_id);
    let mut records = 0;
    while let Ok(Some(record)) = header.read_frame(&mut rest) {
        decoder.decode(record).ok()?;
        records += 1;
    }
    let number = header.first_sequence.saturating_add(records).saturating_sub(1);
    Some((number, decoder.into_newest()?))
}

/// Number of a segment's last sample, by the headers of its blocks.
fn last_number(path: &Path) -> Option<u64> {
    last_block(path, &Filter::nothing()).map(|(header, _)| header.last_sequence())
}

/// The last sample of a segment's last good block, and its number.
fn newest_in_segment(path: &Path) -> Option<(u64, Sample)> {
    let (header, data) = last_block(path, &Filter::default())?;
    let sample = Block::parse(&data?).ok()?.samples().ok()?.last()?.ok()?;
    Some((header.last_sequence(), sample))
}

/// The last good block of a segment, with its bytes if it is wanted. A segment that cannot be read has none.
fn last_block(path: &Path, wanted: &Filter) -> Option<(Header, Option<Vec<u8>>)> {
    let mut segment = Segment::open(path).ok()?;
    let mut last = None;
    loop {
        match segment.look(wanted, 0) {
            Look::Block { header, data } => last = Some((header, data)),
            Look::Damaged { .. } => {}
            Look::Unreadable { .. } | Look::End => return last,
        }
    }
}
