//! State of the record: whether a recorder is running, the newest sample, and the size.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use crate::{Block, Decoder, Header, Sample, tail};

use super::{
    Error,
    filter::Filter,
    lock,
    names::TAILS,
    segment::{self, Look, Segment},
    while_trying,
};

/// Summary of the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether a recorder is running.
    pub running: bool,
    /// The newest sample, if there is one.
    pub newest: Option<Sample>,
    /// Disk space, in bytes.
    pub bytes: u64,
}

/// Summarizes the record in `directory`, which need not exist.
///
/// # Errors
/// If the directory cannot be listed or its lock cannot be checked.
pub fn status(directory: &Path) -> Result<Status, Error> {
    let running = lock::is_held(directory).map_err(while_trying("check the lock in", directory))?;
    Ok(Status { running, newest: newest(directory)?, bytes: total_bytes(directory)? })
}

/// The newest sample of the record in `directory`, which need not exist.
///
/// # Errors
/// If the directory cannot be listed.
pub fn newest(directory: &Path) -> Result<Option<Sample>, Error> {
    let mut newest = newest_in_tails(directory);
    for segment in segment::list(directory).map_err(while_trying("list", directory))?.iter().rev() {
        let number = newest.as_ref().map(|(number, _)| *number);
        // A running recorder has its newest sample in a tail, so this usually stops at the first segment, whose headers
        // are cheap to read. Without a recorder, a segment may be newer than the tails.
        if number.is_some() && last_number(&segment.path) <= number {
            break;
        }
        newest = newest_in_segment(&segment.path).into_iter().chain(newest).max_by_key(|(number, _)| *number);
    }
    Ok(newest.map(|(_, sample)| sample))
}

/// Disk space of the files in `directory`, which need not exist, in bytes: what the file system allocated, which is more
/// than their length where space is reserved.
///
/// # Errors
/// If the directory cannot be listed.
pub fn total_bytes(directory: &Path) -> Result<u64, Error> {
    /// The unit of `st_blocks` (stat(3type)), whatever the block size of the file system.
    const UNIT: u64 = 512;
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(while_trying("list", directory)(error)),
    };
    // Retention may delete a file during the count.
    Ok(entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|file| file.blocks() * UNIT).sum())
}

/// The newest sample in the tails, with its number.
fn newest_in_tails(directory: &Path) -> Option<(u64, Sample)> {
    let newest = |name| newest_in_tail(&directory.join(name));
    TAILS.into_iter().filter_map(newest).max_by_key(|(number, _)| *number)
}

fn newest_in_tail(path: &Path) -> Option<(u64, Sample)> {
    let bytes = fs::read(path).ok()?;
    let header = tail::Header::parse(&bytes).ok()??;
    let mut rest = &bytes[tail::HEADER_BYTES..];
    let mut decoder = Decoder::new(header.boot_id, header.version);
    let mut records = 0;
    while let Ok(Some(record)) = header.read_frame(&mut rest) {
        decoder.decode(record).ok()?;
        records += 1;
    }
    let number = header.first_sequence.saturating_add(records).saturating_sub(1);
    Some((number, decoder.into_newest()?))
}

/// Number of a segment's last sample, from the block headers.
fn last_number(path: &Path) -> Option<u64> {
    last_block(path, &Filter::nothing()).map(|(header, _)| header.last_sequence())
}

/// The last sample of a segment's last good block, with its number.
fn newest_in_segment(path: &Path) -> Option<(u64, Sample)> {
    let (header, data) = last_block(path, &Filter::default())?;
    let sample = Block::parse(&data?).ok()?.samples().ok()?.last()?.ok()?;
    Some((header.last_sequence(), sample))
}

/// The last good block of a segment, with its bytes if it is wanted; `None` if there is none or the file cannot be read.
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

#[cfg(test)]
mod tests {
    use std::fs::File;

    use nix::fcntl::{FallocateFlags, fallocate};

    use super::*;

    #[test]
    fn the_size_is_what_the_file_system_allocated() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(total_bytes(&directory.path().join("missing")).unwrap(), 0);
        let file = File::create(directory.path().join("file")).unwrap();
        file.set_len(1 << 20).unwrap();
        assert_eq!(total_bytes(directory.path()).unwrap(), 0, "a hole takes no space");
        file.set_len(0).unwrap();
        match fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 1 << 20) {
            Ok(()) => assert!(total_bytes(directory.path()).unwrap() >= 1 << 20, "reserved space is taken"),
            Err(error) => eprintln!("skipped: {error}"),
        }
    }
}
