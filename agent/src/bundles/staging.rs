//! Directories in `.staging`: bundles that are not yet visible, or no longer.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use nix::{errno::Errno, unistd::syncfs};
use proto::bundle::{Digest, Manifest, Provenance};
use tempfile::{Builder, NamedTempFile, TempDir};

use super::{Error, Result};
use crate::{durable, paths::Paths};

/// Creates a directory and its parents, accessible to root only: other users of the host must not read a site's code.
pub(super) fn create_private(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::io("create", path))
}

/// A temporary directory, removed with its content unless it is committed.
pub(super) struct Staging(TempDir);

impl Staging {
    /// Creates a directory in `parent`, with a name from `digest` and a random part, mode 0700.
    pub(super) fn create(parent: &Path, digest: &Digest) -> Result<Self> {
        let created = Builder::new().prefix(&format!("{digest}.")).tempdir_in(parent);
        Ok(Self(created.map_err(Error::io("create a directory in", parent))?))
    }

    /// Path of the bundle's tree.
    pub(super) fn tree(&self) -> PathBuf {
        self.0.path().join("tree")
    }

    /// Writes the files beside the tree.
    pub(super) fn write_head(&self, manifest: &Manifest, provenance: &Provenance) -> Result<()> {
        let path = self.0.path().join("manifest");
        fs::write(&path, manifest.encode()).map_err(Error::io("write", &path))?;
        let path = self.0.path().join("provenance.json");
        fs::write(&path, to_json(provenance)).map_err(Error::io("write", &path))
    }

    /// Flushes everything to the disk and makes the bundle visible as `bundle`. If another upload of the same bundle
    /// finished first, drops this one: they are equal.
    pub(super) fn commit(self, bundle: &Path, now: SystemTime) -> Result<()> {
        let path = self.0.path();
        let directory = File::open(path).map_err(Error::io("open", path))?;
        directory.set_modified(now).map_err(Error::io("set the time of", path))?;
        // One syncfs for 3,000 small files costs a thirtieth of 3,000 fsyncs (ext4, 20 MB), and reports write errors
        // since Linux 5.8.
        syncfs(&directory).map_err(Error::io("force to the disk", path))?;
        match fs::rename(path, bundle) {
            Ok(()) => {}
            Err(error) if already_there(&error) => return Ok(()),
            Err(error) => return Err(Error::io("move to its place", bundle)(error)),
        }
        // Nothing to remove: the directory has been renamed.
        let _moved = self.0.keep();
        durable::sync_parent(bundle).map_err(Error::io("force to the disk", bundle))
    }
}

/// `rename(2)` onto a non-empty directory.
fn already_there(error: &io::Error) -> bool {
    [Errno::ENOTEMPTY, Errno::EEXIST].iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
}

/// Replaces the provenance of a visible bundle, by one rename.
pub(super) fn replace_provenance(paths: &Paths, digest: &Digest, provenance: &Provenance) -> Result<()> {
    let staging = paths.bundles().join(".staging");
    let path = paths.bundle(&digest.to_string()).join("provenance.json");
    let temporary = NamedTempFile::new_in(&staging).map_err(Error::io("create a file in", &staging))?;
    fs::write(temporary.path(), to_json(provenance)).map_err(Error::io("write", temporary.path()))?;
    temporary.persist(&path).map_err(Error::io("replace", &path))?;
    Ok(())
}

fn to_json(provenance: &Provenance) -> Vec<u8> {
    serde_json::to_vec_pretty(provenance).expect("strings and a number have a JSON form")
}
