//! The content of the files of a listing.
//!
//! If git considers a file unchanged, the bundle has the committed content, whatever the checkout changed (line ends,
//! filters). So the machine and its settings do not matter. The object id, computed together with the blob's digest,
//! shows whether the file on disk has that content already; only files that differ are read from git.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use proto::bundle::{Blob, Hasher, MAX_TOTAL_BYTES};

use super::{
    git::Changes,
    listing::{Committed, Listed, Listing},
    object_id::object_hasher,
    objects,
};
use crate::error::{Error, Result};

/// First bytes of every Git LFS pointer (`git-lfs/docs/spec.md`).
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";
/// Every pointer is smaller than this many bytes.
const LFS_LIMIT: u64 = 1024;
/// First bytes of every file encrypted by git-crypt.
const CRYPT: &[u8] = b"\0GITCRYPT\0";

/// The content of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// Path on this machine.
    pub(super) place: PathBuf,
    pub(super) executable: bool,
    pub(super) blob: Blob,
    /// Set if this is not the real content but a stored form that a git filter converts.
    pub(super) stored: Option<Stored>,
}

/// Stored forms that a git filter converts to the real content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Lfs,
    Crypt,
}

/// A file on disk, and whether it is the same as the object in git.
#[derive(Debug)]
struct OnDisk {
    content: Content,
    same: bool,
}

/// The contents of the files at `paths`. Calls `changes` while reading. Content that is read from git is written to
/// `scratch`.
///
/// # Errors
/// A file or an object cannot be read, or `changes` fails.
pub(super) fn contents<'l>(
    listing: &'l Listing,
    paths: &BTreeSet<&'l str>,
    scratch: &Path,
    changes: impl FnOnce() -> Result<Changes> + Send,
) -> Result<(HashMap<&'l str, Content>, Changes)> {
    let chosen: Vec<(&str, &Listed)> = paths
        .iter()
        .filter_map(|path| listing.entries.get_key_value(*path))
        .map(|(p, l)| (p.as_str(), l))
        .collect();
    let on_disk: Vec<(&str, &Path, Option<&str>)> = chosen
        .iter()
        .filter_map(|(path, listed)| {
            let object = listed.committed.as_ref().map(|committed| committed.object.as_str());
            Some((*path, listed.disk.as_deref()?, object))
        })
        .collect();
    let (read, changes) = thread::scope(|scope| {
        // In parallel: git takes as long to compare the tree with the commit as we take to hash it.
        let changes = scope.spawn(changes);
        (read_all(&on_disk), changes.join().expect("asking git does not panic"))
    });
    let (mut read, changes) = (read?, changes?);
    let mut contents = HashMap::with_capacity(chosen.len());
    let mut in_git: BTreeMap<usize, Vec<(&str, &Committed)>> = BTreeMap::new();
    for (path, listed) in chosen {
        let here = read.get(path);
        match &listed.committed {
            Some(committed) if !here.is_some_and(|here| here.same) && !changes.on_disk.contains(path) => {
                in_git.entry(committed.repository).or_default().push((path, committed));
            }
            committed => {
                let Some(here) = read.remove(path) else { continue };
                let mode = committed.as_ref().filter(|_| !changes.on_disk.contains(path));
                let executable = mode.map_or(here.content.executable, |committed| committed.executable);
                contents.insert(path, Content { executable, ..here.content });
            }
        }
    }
    for (repository, files) in in_git {
        for (path, content) in from_git(listing, repository, &files, scratch)? {
            // If git has only a stored form, use the file that the filter wrote to disk.
            let filtered =
                read.remove(path).filter(|here| content.stored.is_some() && here.content.stored.is_none());
            contents.insert(
                path,
                match filtered {
                    Some(here) => Content { executable: content.executable, ..here.content },
                    None => content,
                },
            );
        }
    }
    Ok((contents, changes))
}

/// Reads files on several threads, in small portions because their sizes differ widely. Missing files are left out of
/// the result.
fn read_all<'p>(files: &[(&'p str, &Path, Option<&str>)]) -> Result<HashMap<&'p str, OnDisk>> {
    const PORTION: usize = 16;
    let next = AtomicUsize::new(0);
    let worker = || -> Result<Vec<(&str, OnDisk)>> {
        let mut buffer = vec![0; 128 << 10];
        let mut all = Vec::new();
        loop {
            let start = next.fetch_add(PORTION, Ordering::Relaxed);
            for (path, disk, object) in files.iter().skip(start).take(PORTION) {
                match read_one(disk, *object, &mut buffer) {
                    Ok(read) => all.push((*path, read)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(Error::invalid(format!("cannot read `{path}`: {error}"))),
                }
            }
            if start >= files.len() {
                return Ok(all);
            }
        }
    };
    let workers = thread::available_parallelism().map_or(1, |count| count.get().min(8));
    thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        let mut all = HashMap::with_capacity(files.len());
        for worker in running {
            all.extend(worker.join().expect("hashing does not panic")?);
        }
        Ok(all)
    })
}

fn read_one(disk: &Path, object: Option<&str>, buffer: &mut [u8]) -> io::Result<OnDisk> {
    let mut file = File::open(disk)?;
    let metadata = file.metadata()?;
    let mut id = object.map(|object| object_hasher(object, metadata.len()));
    let (blob, stored) = copy(&mut file, &mut io::sink(), buffer, |bytes| {
        if let Some(id) = &mut id {
            id.update(bytes);
        }
    })?;
    let same = id.is_some_and(|id| Some(hex::encode(id.finish()).as_str()) == object);
    let executable = metadata.permissions().mode() & 0o100 != 0;
    Ok(OnDisk { content: Content { place: disk.to_owned(), executable, blob, stored }, same })
}

/// Copies and hashes `from` to its end; stops when it is too large for any bundle.
fn copy(
    from: &mut dyn Read,
    to: &mut dyn Write,
    buffer: &mut [u8],
    mut see: impl FnMut(&[u8]),
) -> io::Result<(Blob, Option<Stored>)> {
    let (mut hasher, mut size, mut crypt, mut lfs) = (Hasher::new(), 0, false, false);
    loop {
        let length = from.read(buffer)?;
        if size == 0 {
            (crypt, lfs) = (buffer[..length].starts_with(CRYPT), buffer[..length].starts_with(LFS));
        }
        if length == 0 || size > MAX_TOTAL_BYTES {
            let stored = match (crypt, lfs && size < LFS_LIMIT) {
                (true, _) => Some(Stored::Crypt),
                (_, true) => Some(Stored::Lfs),
                _ => None,
            };
            return Ok((Blob { digest: hasher.finish(), size }, stored));
        }
        hasher.update(&buffer[..length]);
        see(&buffer[..length]);
        to.write_all(&buffer[..length])?;
        size += length as u64;
    }
}

/// Writes objects to files below `scratch`, each once.
fn from_git<'l>(
    listing: &Listing,
    repository: usize,
    files: &[(&'l str, &Committed)],
    scratch: &Path,
) -> Result<Vec<(&'l str, Content)>> {
    let objects: BTreeSet<&str> = files.iter().map(|(_, committed)| committed.object.as_str()).collect();
    let objects: Vec<&str> = objects.into_iter().collect();
    let directory = scratch.join("objects");
    fs::create_dir_all(&directory)
        .map_err(|error| Error::invalid(format!("cannot create {}: {error}", directory.display())))?;
    let (mut buffer, mut read) = (vec![0; 128 << 10], HashMap::with_capacity(objects.len()));
    let (checkout, _) = &listing.repositories[repository];
    objects::each(checkout, &objects, |index, blob| {
        let place = directory.join(objects[index]);
        let mut file = File::create(&place)?;
        let (blob, stored) = copy(blob, &mut file, &mut buffer, |_| {})?;
        read.insert(objects[index], (place, blob, stored));
        Ok(())
    })?;
    let content = |(path, committed): &(&'l str, &Committed)| {
        let (place, blob, stored) = read[committed.object.as_str()].clone();
        (*path, Content { place, executable: committed.executable, blob, stored })
    };
    Ok(files.iter().map(content).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_forms_are_recognized_by_their_first_bytes() {
        let stored =
            |bytes: &[u8]| copy(&mut &bytes[..], &mut io::sink(), &mut [0; 512], |_| {}).expect("read").1;
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        assert_eq!(stored(pointer), Some(Stored::Lfs));
        assert_eq!(stored(&[&pointer[..], &[b'x'; 2000]].concat()), None, "a text about them");
        assert_eq!(stored(b"\0GITCRYPT\0\x01\x02"), Some(Stored::Crypt));
        assert_eq!(stored(b""), None);
        assert_eq!(stored(b"version 2\n"), None);
    }
}
