//! Makes a [`Bundle`] from a directory as it is, or as it was at a git revision.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, Permissions},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use proto::bundle::{
    Blob, Entry, Hasher, Kind, MAX_TOTAL_BYTES, Manifest, ManifestError, Provenance, link::LinkProblem,
    path::parent,
};
use tempfile::TempDir;

use super::{
    Bundle,
    git::{self, Checkout},
    prepare,
    walk::{Found, FoundKind, Rules, walk},
};
use crate::error::{Error, Result};

/// The tree at `path` as it is now, without what git ignores, and completed by `prepare`.
///
/// # Errors
/// It cannot be read, breaks a rule of the bundle (the path is named), or `prepare` fails.
pub fn from_working_tree(path: &Path, prepare: Option<&str>, now: SystemTime) -> Result<Bundle> {
    let root = canonical(path)?;
    let checkout = Checkout::of(&root);
    let rules = Rules::Gitignore { in_repository: checkout.is_some() };
    // git takes as long to compare the tree with the commit as we take to hash it.
    thread::scope(|scope| {
        let provenance = scope.spawn(|| provenance(&root, checkout.as_ref(), now));
        let found = walk(&root, rules)?;
        let (found, copy) = match prepare {
            None => (found, None),
            Some(command) => {
                let copy = scratch()?;
                prepare::copy(&found, copy.path())?;
                (prepared(command, copy.path())?, Some(copy))
            }
        };
        let (manifest, files) = hash(found)?;
        let provenance = provenance.join().expect("asking git does not panic");
        Ok(Bundle::new(manifest, provenance, files, copy))
    })
}

/// The tree at `path` as it was at `revision` (anything that git understands), completed by `prepare`. Neither checkout nor
/// index are touched.
///
/// # Errors
/// `path` is not in a git checkout, the revision or the directory in it is unknown, and all of [`from_working_tree`].
pub fn from_revision(path: &Path, revision: &str, prepare: Option<&str>, now: SystemTime) -> Result<Bundle> {
    let root = canonical(path)?;
    let checkout = Checkout::of(&root).ok_or_else(|| {
        Error::invalid(format!("{} is not in a git checkout, so it has no revisions", root.display()))
    })?;
    let commit = checkout.commit(revision)?;
    let copy = scratch()?;
    let tree = copy.path().join("tree");
    checkout.export(&commit, copy.path(), &tree)?;
    let tree = canonical(&tree)?;
    let found = match prepare {
        None => walk(&tree, Rules::Everything)?,
        Some(command) => prepared(command, &tree)?,
    };
    let (manifest, files) = hash(found)?;
    let provenance =
        Provenance { commit, dirty: Vec::new(), who: git::who(&root), when_unix_ms: milliseconds(now) };
    Ok(Bundle::new(manifest, provenance, files, Some(copy)))
}

fn canonical(path: &Path) -> Result<PathBuf> {
    let invalid = |reason: String| {
        Error::invalid(format!("the bundle's path {} {reason}", path.display()))
            .hint("`path` under [bundle] names the root of the Puppet code")
    };
    let root = fs::canonicalize(path).map_err(|error| invalid(format!("cannot be opened: {error}")))?;
    if root.is_dir() { Ok(root) } else { Err(invalid("is not a directory".to_owned())) }
}

fn scratch() -> Result<TempDir> {
    // The tree may hold secrets: for its owner's eyes alone, whatever the umask.
    let mut builder = tempfile::Builder::new();
    builder.prefix("magpie-").permissions(Permissions::from_mode(0o700));
    builder.tempdir().map_err(|error| Error::invalid(format!("cannot make a temporary copy: {error}")))
}

/// What the command installs is often ignored by git, so after it everything counts.
fn prepared(command: &str, directory: &Path) -> Result<Vec<Found>> {
    prepare::run(command, directory)?;
    walk(&canonical(directory)?, Rules::Everything)
}

fn provenance(root: &Path, checkout: Option<&Checkout>, now: SystemTime) -> Provenance {
    Provenance {
        commit: checkout.and_then(Checkout::head).unwrap_or_default(),
        dirty: checkout.map(Checkout::dirty).unwrap_or_default(),
        who: git::who(root),
        when_unix_ms: milliseconds(now),
    }
}

fn milliseconds(now: SystemTime) -> i64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Hashes all files and puts the manifest together, with the place of each file.
fn hash(found: Vec<Found>) -> Result<(Manifest, HashMap<String, PathBuf>)> {
    let mut entries = directories(&found);
    let mut files = Vec::new();
    for Found { path, kind } in found {
        match kind {
            FoundKind::Link(target) => entries.push(Entry { path, kind: Kind::Link { target } }),
            FoundKind::File(file) => files.push((path, file)),
        }
    }
    for (index, (executable, blob)) in hash_all(&files)? {
        entries.push(Entry { path: files[index].0.clone(), kind: Kind::File { executable, blob } });
    }
    Ok((Manifest::new(entries).map_err(refused)?, files.into_iter().collect()))
}

fn directories(found: &[Found]) -> Vec<Entry> {
    let mut seen = HashSet::new();
    for Found { path, .. } in found {
        let mut at = path.as_str();
        while let Some(directory) = parent(at).filter(|directory| seen.insert(*directory)) {
            at = directory;
        }
    }
    seen.into_iter().map(|path| Entry { path: path.to_owned(), kind: Kind::Directory }).collect()
}

type Hashed = (usize, (bool, Blob));

/// Hashes on all processors; the files come in small portions, because their sizes differ widely.
fn hash_all(files: &[(String, PathBuf)]) -> Result<Vec<Hashed>> {
    const PORTION: usize = 16;
    let next = AtomicUsize::new(0);
    let worker = || -> Result<Vec<Hashed>> {
        let mut buffer = vec![0; 128 << 10];
        let mut hashed = Vec::new();
        loop {
            let start = next.fetch_add(PORTION, Ordering::Relaxed);
            for (index, (path, file)) in files.iter().enumerate().skip(start).take(PORTION) {
                let blob = hash_one(file, &mut buffer);
                let blob = blob.map_err(|error| Error::invalid(format!("cannot read `{path}`: {error}")))?;
                hashed.push((index, blob));
            }
            if start >= files.len() {
                return Ok(hashed);
            }
        }
    };
    let workers = thread::available_parallelism().map_or(1, |count| count.get().min(8));
    thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        let mut all = Vec::with_capacity(files.len());
        for worker in running {
            all.extend(worker.join().expect("hashing does not panic")?);
        }
        Ok(all)
    })
}

fn hash_one(path: &Path, buffer: &mut [u8]) -> io::Result<(bool, Blob)> {
    let mut file = File::open(path)?;
    let executable = file.metadata()?.permissions().mode() & 0o100 != 0;
    let (mut hasher, mut size) = (Hasher::new(), 0);
    loop {
        let length = file.read(buffer)?;
        if length == 0 || size > MAX_TOTAL_BYTES {
            return Ok((executable, Blob { digest: hasher.finish(), size }));
        }
        hasher.update(&buffer[..length]);
        size += length as u64;
    }
}

fn refused(error: ManifestError) -> Error {
    let refused = Error::invalid(&error);
    match error {
        ManifestError::Link { problem: LinkProblem::Dangling, .. } => {
            refused.hint("what it points at may be ignored by git, or an empty directory")
        }
        ManifestError::TooLarge | ManifestError::TooManyEntries { .. } => {
            refused.hint("only code belongs in a bundle; leave the rest out with .gitignore")
        }
        _ => refused,
    }
}

#[cfg(test)]
mod tests;
