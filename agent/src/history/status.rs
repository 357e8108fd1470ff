//! Whether the record is being written, up to when, and how large it is.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use proto::history::{Found, tail, walk};

use super::{Error, TAIL, lock, segment, while_trying};

/// The record at a glance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// A recorder is writing.
    pub running: bool,
    /// Wall time of the newest sample, ms since the Unix epoch.
    pub last_sample_ms: Option<i64>,
    /// Bytes on disk.
    pub bytes: u64,
}

/// Looks at the record in `directory`, which need not exist.
pub fn status(directory: &Path) -> Result<Status, Error> {
    let running = lock::is_held(directory).map_err(while_trying("look at the lock in", directory))?;
    let bytes = total_bytes(directory).map_err(while_trying("list", directory))?;
    let last_sample_ms = match newest_in_tail(&directory.join(TAIL)) {
        Some(wall_ms) => Some(wall_ms),
        None => newest_in_segments(directory).map_err(while_trying("list", directory))?,
    };
    Ok(Status { running, last_sample_ms, bytes })
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

fn newest_in_tail(path: &Path) -> Option<i64> {
    let bytes = fs::read(path).ok()?;
    tail::Header::parse(&bytes).ok()?;
    let mut rest = &bytes[tail::HEADER_BYTES..];
    let mut newest = None;
    while let Ok(record) = tail::read_frame(&mut rest) {
        newest = tail::wall_ms(record).ok();
    }
    newest
}

fn newest_in_segments(directory: &Path) -> io::Result<Option<i64>> {
    let Some(newest) = segment::list(directory)?.pop() else { return Ok(None) };
    let mut bytes = vec![0; newest.extent.bytes as usize];
    if File::open(&newest.path)?.read_exact_at(&mut bytes, 0).is_err() {
        return Ok(None);
    }
    let blocks = walk(&bytes).filter_map(|found| match found {
        Found::Block(_, block) => Some(block.header.last_wall_ms),
        Found::Damaged(..) => None,
    });
    Ok(blocks.last())
}
