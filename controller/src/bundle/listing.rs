//! Lists the paths of a tree and their kinds, before any content is read: from git in a repository, else by walking the
//! directory.

use std::{
    collections::BTreeMap,
    fs::{self, FileType},
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    thread,
};

use ignore::{DirEntry, WalkBuilder};

use super::{
    git::{Checkout, Mode, Tracked},
    names::{below, join, relative},
    object_id::object_id,
    objects,
};
use crate::error::{Error, Result};

/// The kind of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file.
    File,
    /// A link, and its target.
    Link(String),
    /// A submodule that is not checked out.
    Submodule,
}

/// One path, and where to read its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) kind: Kind,
    /// Path on disk.
    pub(super) disk: Option<PathBuf>,
    /// Object in git.
    pub(super) committed: Option<Committed>,
}

/// A file in git.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Committed {
    /// Index of its repository in [`Listing::repositories`].
    pub(super) repository: usize,
    /// Object id in hex.
    pub(super) object: String,
    pub(super) executable: bool,
}

/// All paths of a tree, or of part of it.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Entries by path from the root of the repository or directory.
    pub(super) entries: BTreeMap<String, Listed>,
    /// The repositories that contain the objects, and their paths.
    pub(super) repositories: Vec<(Checkout, String)>,
    /// Paths that cannot be in a bundle, with the reason.
    pub(super) unusable: Vec<(String, Error)>,
}

/// Which files to list in a directory outside git. `.git` is never listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rules {
    /// All files.
    Everything,
    /// All files except those that `.gitignore` files in the directory match.
    Gitignore,
}

/// All entries below `root` with their kind, except directories and `.git`.
pub(super) fn walk(root: &Path, rules: Rules) -> impl Iterator<Item = Result<(DirEntry, FileType)>> {
    let mut builder = WalkBuilder::new(root);
    builder.standard_filters(false).filter_entry(|entry| entry.file_name() != ".git");
    if rules == Rules::Gitignore {
        builder.git_ignore(true).require_git(false).parents(false);
    }
    let with_kind = |entry: DirEntry| {
        let kind = entry.file_type().expect("only stdin has no type, and it is not walked");
        (!kind.is_dir()).then_some((entry, kind))
    };
    builder.build().filter_map(move |found| match found {
        Ok(entry) => with_kind(entry).map(Ok),
        Err(error) => Some(Err(Error::invalid(format!("cannot read the bundle: {error}")))),
    })
}

impl Listing {
    /// Paths below `path` in the working tree: existing tracked files, and new files that are not ignored.
    pub(super) fn working_tree(checkout: &Checkout, path: &str) -> Result<Self> {
        let mut listing = Self::default();
        listing.add_repository(checkout.clone(), "", path)?;
        Ok(listing)
    }

    /// Paths below `path` in a commit.
    pub(super) fn commit(checkout: &Checkout, commit: &str, path: &str) -> Result<Self> {
        let mut listing = Self { repositories: vec![(checkout.clone(), String::new())], ..Self::default() };
        let mut links = Vec::new();
        for tracked in checkout.committed(commit, path)? {
            let Some(name) = listing.name("", &tracked.path) else { continue };
            match tracked.mode {
                Mode::Submodule => listing.add(name, Kind::Submodule, None, None),
                Mode::Link => links.push((name, tracked.object)),
                Mode::File { .. } => listing.add(name, Kind::File, None, committed(0, &tracked)),
            }
        }
        listing.add_links(0, links)?;
        Ok(listing)
    }

    /// Paths in a directory outside git.
    pub(super) fn directory(root: &Path, rules: Rules) -> Result<Self> {
        let mut listing = Self::default();
        listing.add_directory(root, "", rules)?;
        Ok(listing)
    }

    fn add_repository(&mut self, checkout: Checkout, at: &str, path: &str) -> Result<()> {
        let index = self.repositories.len();
        self.repositories.push((checkout.clone(), at.to_owned()));
        let (tracked, untracked) = thread::scope(|scope| {
            let untracked = scope.spawn(|| checkout.untracked(path));
            (checkout.tracked(path), untracked.join().expect("asking git does not panic"))
        });
        let (mut links, mut nested) = (Vec::new(), Vec::new());
        for tracked in tracked? {
            let Some(name) = self.name(at, &tracked.path) else { continue };
            let disk = on_disk(&checkout, &tracked.path);
            match tracked.mode {
                Mode::Submodule if disk.join(".git").exists() => nested.push((name, disk)),
                Mode::Submodule => self.add(name, Kind::Submodule, None, None),
                _ if tracked.unmerged => self.add_from_disk(name, disk)?,
                _ => match content_of(&tracked, &disk)? {
                    Place::Gone => {}
                    Place::Here(kind) => self.add(name, kind, Some(disk), committed(index, &tracked)),
                    Place::Git if tracked.mode == Mode::Link => links.push((name, tracked.object)),
                    Place::Git => self.add(name, Kind::File, None, committed(index, &tracked)),
                },
            }
        }
        for path in untracked? {
            let (path, is_nested) = match path.strip_suffix(b"/") {
                Some(path) => (path, true),
                None => (path.as_slice(), false),
            };
            let Some(name) = self.name(at, path) else { continue };
            let disk = on_disk(&checkout, path);
            if is_nested {
                nested.push((name, disk));
            } else {
                // A link may have replaced a tracked directory.
                self.remove_below(&name);
                self.add_from_disk(name, disk)?;
            }
        }
        self.add_links(index, links)?;
        nested.into_iter().try_for_each(|(name, disk)| match Checkout::of(&disk)? {
            Some(checkout) if checkout.prefix.is_empty() => self.add_repository(checkout, &name, ""),
            _ => self.add_directory(&disk, &name, Rules::Gitignore),
        })
    }

    fn add_directory(&mut self, root: &Path, at: &str, rules: Rules) -> Result<()> {
        for found in walk(root, rules) {
            let (entry, kind) = found?;
            let inside = entry.path().strip_prefix(root).expect("walked from the root");
            let Some(name) = self.name(at, inside.as_os_str().as_bytes()) else { continue };
            if kind.is_symlink() {
                let text = link_text(entry.path())?;
                // Make absolute links into the tree itself relative.
                let text = match Path::new(&text).strip_prefix(root).ok().and_then(Path::to_str) {
                    Some(inside) => relative(&name, &join(at, inside)),
                    None => text,
                };
                self.add(name, Kind::Link(text), Some(entry.into_path()), None);
            } else if kind.is_file() {
                self.add(name, Kind::File, Some(entry.into_path()), None);
            } else {
                let error = Error::invalid(format!("`{name}` is neither a file, a directory nor a link"));
                self.unusable.push((name, error));
            }
        }
        Ok(())
    }

    fn add(&mut self, name: String, kind: Kind, disk: Option<PathBuf>, committed: Option<Committed>) {
        self.entries.insert(name, Listed { kind, disk, committed });
    }

    /// Adds a path that git does not track; it may have been removed meanwhile.
    fn add_from_disk(&mut self, name: String, disk: PathBuf) -> Result<()> {
        match fs::symlink_metadata(&disk).map(|metadata| metadata.file_type()) {
            Ok(kind) if kind.is_symlink() => {
                let text = link_text(&disk)?;
                self.add(name, Kind::Link(text), Some(disk), None);
            }
            Ok(kind) if kind.is_file() => self.add(name, Kind::File, Some(disk), None),
            _ => {}
        }
        Ok(())
    }

    /// Adds links whose target must be read from git.
    fn add_links(&mut self, repository: usize, links: Vec<(String, String)>) -> Result<()> {
        let ids: Vec<&str> = links.iter().map(|(_, object)| object.as_str()).collect();
        let mut texts = Vec::with_capacity(links.len());
        objects::each(&self.repositories[repository].0, &ids, |_, blob| {
            let mut text = Vec::new();
            blob.read_to_end(&mut text)?;
            texts.push(String::from_utf8_lossy(&text).into_owned());
            Ok(())
        })?;
        for ((name, _), text) in links.into_iter().zip(texts) {
            self.add(name, Kind::Link(text), None, None);
        }
        Ok(())
    }

    fn remove_below(&mut self, directory: &str) {
        let prefix = format!("{directory}/");
        let below: Vec<String> = below(&self.entries, directory).map(|(path, _)| path.clone()).collect();
        below
            .iter()
            .filter(|path| path.starts_with(&prefix))
            .for_each(|path| drop(self.entries.remove(path)));
    }

    /// The path as text; a path that is not UTF-8 is added to `unusable`.
    fn name(&mut self, at: &str, path: &[u8]) -> Option<String> {
        if let Ok(path) = str::from_utf8(path) {
            return Some(join(at, path));
        }
        let shown = join(at, &String::from_utf8_lossy(path));
        let error = Error::invalid(format!("`{}` is not UTF-8", shown.escape_debug()));
        self.unusable.push((shown, error));
        None
    }
}

/// Where to read the content of a tracked file or link.
enum Place {
    Gone,
    Here(Kind),
    Git,
}

fn content_of(tracked: &Tracked, disk: &Path) -> Result<Place> {
    let kind = fs::symlink_metadata(disk).ok().map(|metadata| metadata.file_type());
    Ok(match (kind, tracked.mode) {
        (Some(kind), Mode::File { .. }) if kind.is_file() => Place::Here(Kind::File),
        (Some(kind), _) if kind.is_symlink() => Place::Here(Kind::Link(link_text(disk)?)),
        // With core.symlinks=false a link is checked out as a file with its text.
        (Some(kind), Mode::Link) if kind.is_file() => {
            let text = fs::read(disk).map_err(|error| unreadable(disk, &error))?;
            let same = object_id(&tracked.object, &text) == tracked.object;
            if same { Place::Git } else { Place::Here(Kind::File) }
        }
        // Missing on purpose, such as in a sparse checkout.
        (None, _) if tracked.unwatched => Place::Git,
        _ => Place::Gone,
    })
}

fn committed(repository: usize, tracked: &Tracked) -> Option<Committed> {
    let executable = tracked.mode == Mode::File { executable: true };
    Some(Committed { repository, object: tracked.object.clone(), executable })
}

fn on_disk(checkout: &Checkout, path: &[u8]) -> PathBuf {
    checkout.toplevel.join(std::ffi::OsStr::from_bytes(path))
}

fn link_text(link: &Path) -> Result<String> {
    let text = fs::read_link(link).map_err(|error| unreadable(link, &error))?;
    Ok(String::from_utf8_lossy(&text.into_os_string().into_vec()).into_owned())
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::invalid(format!("cannot read {}: {error}", path.display()))
}
