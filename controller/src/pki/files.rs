//! Files that only their owner can read, written atomically.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

use tempfile::{NamedTempFile, TempDir};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Refuses a file or directory that other users can access, as ssh does with keys.
pub(super) fn check_private(path: &Path) -> Result<()> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let right = if metadata.is_dir() { 700 } else { 600 };
    let shown = path.display();
    Err(Error::invalid(format!(
        "{shown} holds keys of the fleet, and other users can access it (mode {mode:04o})"
    ))
    .hint(format!("chmod {right} {shown}")))
}

/// The bytes of a file that is not secret.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| unreadable(path, &error))
}

/// The bytes of a key file; refused if other users can access it.
pub(super) fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    check_private(path)?;
    read(path).map(Zeroizing::new)
}

/// Creates a file with mode 0600; leaves an existing file unchanged. Durable on return.
pub(super) fn create(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = temporary(path, bytes).and_then(|file| match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != ErrorKind::AlreadyExists => Err(error.error),
        _ => sync_parent(path),
    });
    written.map_err(|error| unwritable(path, &error))
}

/// Creates or replaces a file with mode 0600. Durable on return.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    temporary(path, bytes)
        .and_then(|file| file.persist(path).map_err(|error| error.error))
        .and_then(|_| sync_parent(path))
        .map_err(|error| unwritable(path, &error))
}

/// Creates a directory with mode 0700, unless it exists.
pub(crate) fn directory(path: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(unwritable(path, &error)),
        _ => Ok(()),
    }
}

/// A temporary directory, removed again unless it is published.
pub(super) struct Draft(TempDir);

impl Draft {
    /// Creates a draft on the same file system as `dir`, and the parents of `dir`.
    pub(super) fn beside(dir: &Path) -> Result<Self> {
        let parent = parent(dir);
        let mut draft = tempfile::Builder::new();
        draft.prefix(".magpie-fleet-").permissions(Permissions::from_mode(0o700));
        let draft = fs::create_dir_all(parent).and_then(|()| draft.tempdir_in(parent));
        draft.map(Self).map_err(|error| unwritable(dir, &error))
    }

    /// Adds a file with mode 0600.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        create(&self.0.path().join(name), bytes)
    }

    /// Renames the draft to `dir`, which must be missing or empty.
    pub(super) fn publish(self, dir: &Path) -> Result<()> {
        match fs::rename(self.0.path(), dir) {
            // The path that is removed on drop no longer exists.
            Ok(()) => sync_parent(dir).map_err(|error| unwritable(dir, &error)),
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                Err(Error::invalid(format!("{} exists and is not empty", dir.display()))
                    .hint("create a fleet only once, then share its CA directory"))
            }
            Err(error) => Err(unwritable(dir, &error)),
        }
    }
}

/// tempfile creates with O_EXCL and mode 0600.
fn temporary(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new_in(parent(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::invalid(format!("cannot read {}: {error}", path.display()))
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    Error::invalid(format!("cannot write {}: {error}", path.display()))
}
