//! Files that only their owner may read, and that appear whole.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

use tempfile::{NamedTempFile, TempDir};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Refuses a file or directory that anybody but its owner has access to, as ssh does with keys.
pub(super) fn check_private(path: &Path) -> Result<()> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let right = if metadata.is_dir() { 700 } else { 600 };
    let shown = path.display();
    Err(Error::invalid(format!("{shown} is open to others (mode {mode:04o}); it holds keys of the fleet"))
        .hint(format!("chmod {right} {shown}")))
}

/// The bytes of a file that is no secret.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| unreadable(path, &error))
}

/// The bytes of a key.
pub(super) fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    check_private(path)?;
    read(path).map(Zeroizing::new)
}

/// Creates a file of mode 0600, or leaves one that is there already as it is. Durable on return.
pub(super) fn create(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = temporary(path, bytes).and_then(|file| match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != ErrorKind::AlreadyExists => Err(error.error),
        _ => sync_parent(path),
    });
    written.map_err(|error| unwritable(path, &error))
}

/// Creates or replaces a file of mode 0600. Durable on return.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    temporary(path, bytes)
        .and_then(|file| file.persist(path).map_err(|error| error.error))
        .and_then(|_| sync_parent(path))
        .map_err(|error| unwritable(path, &error))
}

/// Creates a directory of mode 0700, unless it is there.
pub(crate) fn directory(path: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(unwritable(path, &error)),
        _ => Ok(()),
    }
}

/// A directory in the making, removed again unless it is published.
pub(super) struct Draft(TempDir);

impl Draft {
    /// A draft on the same file system as `dir`, whose parents are created.
    pub(super) fn beside(dir: &Path) -> Result<Self> {
        let parent = parent(dir);
        let mut draft = tempfile::Builder::new();
        draft.prefix(".magpie-fleet-").permissions(Permissions::from_mode(0o700));
        let draft = fs::create_dir_all(parent).and_then(|()| draft.tempdir_in(parent));
        draft.map(Self).map_err(|error| unwritable(dir, &error))
    }

    /// Adds a file of mode 0600.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        create(&self.0.path().join(name), bytes)
    }

    /// Puts the draft in the place of `dir`, which must not exist or be empty.
    pub(super) fn publish(self, dir: &Path) -> Result<()> {
        match fs::rename(self.0.path(), dir) {
            // What is dropped then is a path where nothing is left.
            Ok(()) => sync_parent(dir).map_err(|error| unwritable(dir, &error)),
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                Err(Error::invalid(format!("{} exists and is not empty", dir.display()))
                    .hint("a fleet is created once; its directory is then shared, not made again"))
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
