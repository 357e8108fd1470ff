//! The record of a dead host: a directory of segment files and two tails, on a disk that is mounted somewhere.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use proto::glance;
use record::tail::NAMES;

use super::{Filter, KnownRun, blocks::Blocks, runs::Known, tail};
use crate::error::{Error, Result};

/// Where the record is on a host's disk.
const ON_DISK: &str = "var/lib/magpie/history";

/// What the name of a segment file ends with; before it stands the number of its first sample, in 20 digits.
pub(super) const SUFFIX: &str = ".blocks";

/// A directory with a record in it.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The record in `path`, or at its place below `path` if that is the root of a disk.
    ///
    /// # Errors
    /// There is no record, or it cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        for candidate in [path.to_path_buf(), path.join(ON_DISK)] {
            match holds_record(&candidate) {
                Ok(true) => return Ok(Self { path: candidate }),
                Ok(false) => {}
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(unreadable(&candidate, &error)),
            }
        }
        Err(Error::invalid(format!("there is no record in {}", path.display())).hint(format!(
            "--from-dir takes a directory with segments (*{SUFFIX}), or the root of a mounted disk with {ON_DISK}"
        )))
    }

    /// Where the segments are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins to read.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub(super) fn blocks(&self, filter: Filter) -> Result<Blocks> {
        // The tails first: what becomes a block meanwhile is seen twice, and told by its number, not missed.
        let tails = tail::read(&self.path);
        Ok(Blocks::new(self.segments()?, tails, filter))
    }

    /// Wall times of the oldest and the newest sample, ms since the Unix epoch; `None` if there is none.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn range(&self) -> Result<Option<(i64, i64)>> {
        let (headers, _) = self.headers()?;
        Ok(glance::range(&headers))
    }

    /// The runs that were fetched with the record.
    pub(super) fn runs(&self) -> Result<Vec<KnownRun>> {
        Ok(Known::read(&self.path)?.map_or_else(Vec::new, |known| known.runs))
    }

    /// Paths of all segments, oldest first.
    pub(super) fn segments(&self) -> Result<Vec<PathBuf>> {
        let failed = |error| unreadable(&self.path, &error);
        let mut segments = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if is_segment(&path) {
                segments.push(path);
            }
        }
        segments.sort();
        Ok(segments)
    }
}

fn holds_record(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if is_segment(&path) || NAMES.iter().any(|name| path.ends_with(name)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_segment(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let number = name.and_then(|name| name.strip_suffix(SUFFIX));
    number.is_some_and(|number| number.len() == 20 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> Error {
    let unreadable = Error::invalid(format!("cannot read {}: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            unreadable.hint("a host's record belongs to its root user: try sudo")
        }
        _ => unreadable,
    }
}
