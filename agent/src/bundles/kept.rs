//! Finds blobs in kept bundles.

use std::{collections::HashSet, fs, io, path::PathBuf, time::SystemTime};

use proto::bundle::{Digest, Manifest};

use super::{Error, Found, Kept, Result};
use crate::paths::Paths;

/// Where a blob is: a path in the tree of a kept bundle.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) bundle: Digest,
    pub(super) path: String,
    /// The absolute path.
    pub(super) file: PathBuf,
    /// The file's mode is 0555, not 0444, so only an executable can share its inode.
    pub(super) executable: bool,
}

/// All bundles below `paths`, in no particular order. Ignores names that are not digests.
pub(super) fn list(paths: &Paths) -> Result<Vec<Kept>> {
    let directory = paths.bundles();
    let mut kept = Vec::new();
    for entry in fs::read_dir(&directory).map_err(Error::io("list", &directory))? {
        let entry = entry.map_err(Error::io("list", &directory))?;
        let Some(digest) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let used =
            entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        kept.push(Kept { digest, used });
    }
    Ok(kept)
}

/// Reads the manifest of a kept bundle.
pub(super) fn manifest(paths: &Paths, digest: &Digest) -> Result<Manifest> {
    let path = paths.bundle(&digest.to_string()).join("manifest");
    let bytes = fs::read(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::Absent { digest: *digest },
        _ => Error::io("read", &path)(source),
    })?;
    if Digest::of(&bytes) != *digest {
        return Err(Error::Damaged { digest: *digest, path: "manifest".to_owned() });
    }
    Ok(Manifest::decode(&bytes)?)
}

/// The blobs of `wanted` that are in kept bundles. Searches the most recently used bundle first, because it probably
/// has them all. Skips an unreadable bundle: that costs an upload and breaks nothing.
pub(super) fn find(paths: &Paths, wanted: &Manifest) -> Found {
    let mut open: HashSet<Digest> = wanted.files().map(|(_, _, blob)| blob.digest).collect();
    let mut kept = list(paths).unwrap_or_default();
    kept.sort_by_key(|bundle| std::cmp::Reverse(bundle.used));
    let mut found = Found::new();
    for bundle in kept {
        if open.is_empty() {
            break;
        }
        let Ok(manifest) = manifest(paths, &bundle.digest) else { continue };
        for (path, executable, blob) in manifest.files() {
            if open.remove(&blob.digest) {
                let file = paths.bundle_tree(&bundle.digest.to_string()).join(path);
                found.insert(
                    blob.digest,
                    Place { bundle: bundle.digest, path: path.to_owned(), file, executable },
                );
            }
        }
    }
    found
}
