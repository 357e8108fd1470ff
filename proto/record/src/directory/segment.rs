//! Segment files: their names, and what is in them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use crate::{Damage, Found, walk};

use super::retention::Extent;

const SUFFIX: &str = ".blocks";

/// One segment file.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Size and age.
    pub(super) extent: Extent,
}

/// Path of the segment that begins with this sample; names sort as numbers do.
pub(super) fn path(directory: &Path, first_sequence: u64) -> PathBuf {
    directory.join(format!("{first_sequence:020}{SUFFIX}"))
}

/// All segments, oldest first. A directory that is not there has none.
///
/// The age is the file's time of change: files are only ever appended to, and it holds for damaged ones too.
pub(super) fn list(directory: &Path) -> io::Result<Vec<Segment>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut segments = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(number) = name.and_then(|name| name.strip_suffix(SUFFIX)) else { continue };
        if number.parse::<u64>().is_err() {
            continue;
        }
        // Retention may remove a file while it is being listed.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let changed = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let extent = Extent { bytes: metadata.len(), last_wall_ms: changed.as_millis() as i64 };
        segments.push(Segment { path, extent });
    }
    segments.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(segments)
}

/// What a recorder that goes on after a crash must know of its newest segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// Bytes up to the end of the last good block.
    pub(super) good_bytes: u64,
    /// Number of the last sample.
    pub(super) last_sequence: Option<u64>,
    /// Some of it is of another version of the format: not damage, and not to be cut.
    pub(super) foreign: bool,
}

/// Reads a segment whole. Damage in its middle stays; damage at its end is not part of `good_bytes`.
pub(super) fn survey(bytes: &[u8]) -> Survey {
    let mut survey = Survey::default();
    for found in walk(bytes) {
        match found {
            Found::Block(at, block) => {
                survey.good_bytes = (at + block.header.block_bytes()) as u64;
                survey.last_sequence = survey.last_sequence.max(Some(block.header.last_sequence()));
            }
            Found::Damaged(_, Damage::Version { .. }) => survey.foreign = true,
            Found::Damaged(..) => {}
        }
    }
    survey
}

/// Number of the first sample, by the segment's name.
pub(super) fn named_sequence(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.parse().ok()
}
