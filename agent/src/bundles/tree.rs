//! The tree of one bundle: writes it into an empty directory, and verifies it later.
//!
//! All files are created relative to the tree's own descriptor with `O_EXCL | O_NOFOLLOW`, and symbolic links come
//! last, so there is no link to write through while files are written. The manifest's rules exclude everything else.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    },
    path::Path,
};

use nix::{
    fcntl::{AT_FDCWD, AtFlags, OFlag, openat},
    sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, mkdirat},
    unistd::{linkat, symlinkat},
};
use proto::bundle::{Blob, Digest, Hasher, Kind, Manifest, unpack};

use super::{Error, Found, Result, kept::Place};

const DIRECTORY_MODE: Mode = Mode::from_bits_truncate(0o755);

fn file_mode(executable: bool) -> Mode {
    Mode::from_bits_truncate(if executable { 0o555 } else { 0o444 })
}

/// Creates `root` with everything that `manifest` lists: blobs in `missing` from `stream`, all others from `found`.
pub(super) fn write(
    root: &Path,
    manifest: &Manifest,
    missing: &[Blob],
    found: &Found,
    stream: impl Read,
) -> Result<()> {
    let mut tree = Tree::create(root)?;
    tree.make_directories(manifest)?;
    let firsts = first_paths(manifest);
    // Read announced blobs from the stream even if they have meanwhile arrived with another bundle.
    unpack(stream, missing, |blob| {
        let (path, executable) = firsts[&blob.digest];
        tree.create_file(path, executable)
    })
    .map_err(Error::Upload)?;
    let received: std::collections::HashSet<Digest> = missing.iter().map(|blob| blob.digest).collect();
    for (path, executable, blob) in manifest.files() {
        let (first, first_executable) = firsts[&blob.digest];
        if path != first {
            let original = root.join(first);
            tree.share(&original, first_executable == executable, path, executable)?;
        } else if !received.contains(&blob.digest) {
            let place = found.get(&blob.digest).ok_or(Error::BlobGone { digest: blob.digest })?;
            tree.adopt(place, blob, path, executable)?;
        }
    }
    tree.make_links(manifest)
}

/// The first file that needs each blob.
fn first_paths(manifest: &Manifest) -> HashMap<Digest, (&str, bool)> {
    let mut firsts = HashMap::new();
    for (path, executable, blob) in manifest.files() {
        firsts.entry(blob.digest).or_insert((path, executable));
    }
    firsts
}

/// An open directory that is being filled.
struct Tree<'p> {
    root: OwnedFd,
    path: &'p Path,
    buffer: Vec<u8>,
}

impl<'p> Tree<'p> {
    fn create(path: &'p Path) -> Result<Self> {
        fs::DirBuilder::new().mode(0o755).create(path).map_err(Error::io("create", path))?;
        let open = fs::OpenOptions::new().read(true).custom_flags(libc_flags(OFlag::O_DIRECTORY)).open(path);
        let root = open.map_err(Error::io("open", path))?;
        fchmod(&root, DIRECTORY_MODE).map_err(Error::io("set the mode of", path))?;
        Ok(Self { root: root.into(), path, buffer: vec![0; 64 << 10] })
    }

    fn make_directories(&self, manifest: &Manifest) -> Result<()> {
        for entry in manifest.entries().iter().filter(|entry| entry.kind == Kind::Directory) {
            let path = entry.path.as_str();
            mkdirat(&self.root, path, DIRECTORY_MODE)
                // mkdirat applies the umask; fchmodat does not.
                .and_then(|()| fchmodat(&self.root, path, DIRECTORY_MODE, FchmodatFlags::NoFollowSymlink))
                .map_err(|errno| Error::io("create", &self.path.join(path))(errno))?;
        }
        Ok(())
    }

    fn make_links(&self, manifest: &Manifest) -> Result<()> {
        for entry in manifest.entries() {
            let Kind::Link { target } = &entry.kind else { continue };
            symlinkat(target.as_str(), &self.root, entry.path.as_str())
                .map_err(|errno| Error::io("create", &self.path.join(&entry.path))(errno))?;
        }
        Ok(())
    }

    fn create_file(&self, path: &str, executable: bool) -> io::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.root, path, flags, file_mode(executable))?;
        fchmod(&file, file_mode(executable))?;
        Ok(file.into())
    }

    /// Takes a blob from a kept bundle, if it still matches its digest.
    fn adopt(&mut self, place: &Place, blob: Blob, path: &str, executable: bool) -> Result<()> {
        if hash_file(&place.file, &mut self.buffer).ok() != Some(blob) {
            return Err(Error::Damaged { digest: place.bundle, path: place.path.clone() });
        }
        self.share(&place.file, place.executable == executable, path, executable)
    }

    /// Gives `path` the content of `original`: by a hard link if mode and file system allow, otherwise by a copy.
    fn share(&self, original: &Path, same_mode: bool, path: &str, executable: bool) -> Result<()> {
        if same_mode && linkat(AT_FDCWD, original, &self.root, path, AtFlags::empty()).is_ok() {
            return Ok(());
        }
        let copied = File::open(original)
            .and_then(|mut from| io::copy(&mut from, &mut self.create_file(path, executable)?));
        copied.map(drop).map_err(Error::io("write", &self.path.join(path)))
    }
}

/// Digest and size of a regular file; fails on a symbolic link.
fn hash_file(path: &Path, buffer: &mut [u8]) -> io::Result<Blob> {
    let mut file =
        fs::OpenOptions::new().read(true).custom_flags(libc_flags(OFlag::O_NOFOLLOW)).open(path)?;
    let mut hasher = Hasher::new();
    let mut size = 0;
    loop {
        match file.read(buffer)? {
            0 => return Ok(Blob { digest: hasher.finish(), size }),
            length => {
                hasher.update(&buffer[..length]);
                size += length as u64;
            }
        }
    }
}

fn libc_flags(flags: OFlag) -> i32 {
    flags.bits()
}

/// Checks that `root` contains exactly what `manifest` lists.
pub(super) fn verify(digest: &Digest, root: &Path, manifest: &Manifest) -> Result<()> {
    let mut check = Check { manifest, root, seen: 0, buffer: vec![0; 64 << 10] };
    check.directory("").map_err(|path| Error::Damaged { digest: *digest, path })?;
    if check.seen == manifest.entries().len() {
        return Ok(());
    }
    let absent = manifest.entries().iter().find(|entry| root.join(&entry.path).symlink_metadata().is_err());
    let path = absent.map_or_else(|| ".".to_owned(), |entry| entry.path.clone());
    Err(Error::Damaged { digest: *digest, path })
}

struct Check<'m> {
    manifest: &'m Manifest,
    root: &'m Path,
    seen: usize,
    buffer: Vec<u8>,
}

impl Check<'_> {
    /// Checks the directory at `path` recursively; the error is the first path that differs from the list.
    fn directory(&mut self, path: &str) -> Result<(), String> {
        let at = || if path.is_empty() { ".".to_owned() } else { path.to_owned() };
        for entry in fs::read_dir(self.root.join(path)).map_err(|_| at())? {
            let name = entry.map_err(|_| at())?.file_name();
            let name = name.to_string_lossy();
            let child = if path.is_empty() { name.into_owned() } else { format!("{path}/{name}") };
            self.entry(&child).ok_or_else(|| child.clone())?;
            self.seen += 1;
            if self.manifest.get(&child).is_some_and(|entry| entry.kind == Kind::Directory) {
                self.directory(&child)?;
            }
        }
        Ok(())
    }

    /// `None` if the entry at `path` differs from the list.
    fn entry(&mut self, path: &str) -> Option<()> {
        let file = self.root.join(path);
        let metadata = file.symlink_metadata().ok()?;
        let same = match &self.manifest.get(path)?.kind {
            Kind::Directory => metadata.is_dir(),
            Kind::Link { target } => {
                metadata.is_symlink() && fs::read_link(&file).ok()?.as_os_str() == target.as_str()
            }
            Kind::File { executable, blob } => {
                metadata.is_file()
                    && metadata.permissions().mode() & 0o7777 == file_mode(*executable).bits()
                    && hash_file(&file, &mut self.buffer).ok()? == *blob
            }
        };
        same.then_some(())
    }
}
