//! Reads a record from a directory of segments and tails: on a dead host's mounted disk, or fetched before.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use proto::glance;
use record::directory::{self as stored, Blocks, Filter, Reader, SUFFIX};

use super::{KnownRun, runs::Known};
use crate::error::{Error, Result};

/// Where the record is on a host's disk.
const ON_DISK: &str = "var/lib/magpie/history";

/// A directory that contains a record.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Opens the record in `path`, or in `var/lib/magpie/history` below it if `path` is the root of a disk.
    ///
    /// # Errors
    /// If there is no record, or it cannot be read.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        for candidate in [path.to_path_buf(), path.join(ON_DISK)] {
            match holds_record(&candidate) {
                Ok(true) => return Ok(Self { path: candidate }),
                Ok(false) => {}
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(refused(&candidate, &error)),
            }
        }
        Err(Error::invalid(format!("no record in {}", path.display())).hint(format!(
            "--from-dir takes a directory with segments (*{SUFFIX}), or the root of a mounted disk that has {ON_DISK}"
        )))
    }

    /// Directory of the segments.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Starts reading.
    ///
    /// # Errors
    /// If the directory cannot be listed.
    pub(super) fn blocks(&self, filter: Filter) -> Result<Blocks> {
        Reader::new(&self.path).blocks(filter).map_err(|error| unreadable(&self.path, error))
    }

    /// Wall times of the oldest and the newest sample, ms since the Unix epoch; `None` without samples.
    ///
    /// # Errors
    /// If the directory cannot be listed.
    pub(crate) fn range(&self) -> Result<Option<(i64, i64)>> {
        let (headers, _) = self.headers()?;
        Ok(glance::range(&headers))
    }

    /// The runs that were fetched with the record.
    pub(super) fn runs(&self) -> Result<Vec<KnownRun>> {
        Ok(Known::read(&self.path)?.map_or_else(Vec::new, |known| known.runs))
    }
}

fn holds_record(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        if stored::holds_samples(&entry?.path()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The error for an unreadable record in `directory`.
pub(super) fn unreadable(directory: &Path, error: stored::Error) -> Error {
    match error {
        stored::Error::Io { path, source, .. } => refused(&path, &source),
        other => Error::invalid(format!("cannot read {}: {other}", directory.display())),
    }
}

fn refused(path: &Path, error: &io::Error) -> Error {
    let unreadable = Error::invalid(format!("cannot read {}: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::PermissionDenied => unreadable.hint("a host's record belongs to root: try sudo"),
        _ => unreadable,
    }
}
