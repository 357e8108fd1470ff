//! The manifest: what is in a bundle, and the bytes whose SHA-256 is the bundle's name.
//!
//! ```text
//! magic    8 bytes  "magpie-b"
//! version  u16      1
//! count    u32
//! entry    count times, in ascending order of the path's bytes
//!   kind   u8       0 directory · 1 file, mode 0644 · 2 file, mode 0755 · 3 symbolic link
//!   path   u16 length, bytes
//!   files: size u64, SHA-256 32 bytes          links: target u16 length, bytes
//! ```
//!
//! Integers are little-endian. There is exactly one encoding of a tree: [`Manifest::decode`] refuses what
//! [`Manifest::encode`] would not have written. Directories have mode 0755 and are listed if and only if something is in
//! them; no two paths may differ in case alone or in the form of Unicode alone (one letter, or a letter and a mark), because a checkout
//! on macOS could not hold both, and nobody could tell them apart.

mod encoding;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use icu_normalizer::ComposingNormalizerBorrowed;

use super::{
    Digest, MAX_ENTRIES, MAX_TOTAL_BYTES,
    entry::{Blob, Entry, Kind},
    link::{LinkProblem, Resolver},
    path::{self, PathProblem},
};

pub use encoding::VERSION;

/// A valid tree: every rule of this module holds for a value of this type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
}

/// Why a list of entries is not a manifest, or why bytes are not readable as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The magic is missing.
    #[error("these bytes are not a bundle manifest")]
    NotAManifest,
    /// Another version of the format.
    #[error(
        "the manifest has format {found} and this build reads format {VERSION}: bring agent and ctl to the same version"
    )]
    Version {
        /// The version that was found.
        found: u16,
    },
    /// The bytes end within an entry.
    #[error("the manifest ends in the middle of entry {entry}")]
    Truncated {
        /// Index of the entry, from 0.
        entry: usize,
    },
    /// There are bytes after the last entry.
    #[error("{bytes} bytes follow the last entry of the manifest")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// An entry's kind is none of the four.
    #[error("entry {entry} of the manifest is of unknown kind {found}")]
    UnknownKind {
        /// Index of the entry, from 0.
        entry: usize,
        /// The kind that was found.
        found: u8,
    },
    /// More than [`MAX_ENTRIES`].
    #[error("the bundle has {found} entries and {MAX_ENTRIES} are allowed")]
    TooManyEntries {
        /// How many there are.
        found: usize,
    },
    /// More than [`MAX_TOTAL_BYTES`].
    #[error("the bundle's files are larger than {} MiB together", MAX_TOTAL_BYTES >> 20)]
    TooLarge,
    /// A path breaks the rules.
    #[error("`{}` cannot be in a bundle: {problem}", path.escape_debug())]
    Path {
        /// The path, perhaps lossily decoded.
        path: String,
        /// The rule.
        problem: PathProblem,
    },
    /// Not in ascending order, or twice the same path.
    #[error("`{path}` is in the manifest twice or out of order")]
    Order {
        /// The second of the two.
        path: String,
    },
    /// Two paths that differ in case alone.
    #[error("`{first}` and `{second}` differ in case alone, which some file systems cannot hold")]
    CaseCollision {
        /// One path.
        first: String,
        /// The other.
        second: String,
    },
    /// Two paths that differ in the form of Unicode alone.
    #[error("`{first}` is in the bundle twice, in two forms of Unicode that look the same")]
    FormCollision {
        /// One path.
        first: String,
        /// The other.
        second: String,
    },
    /// An entry below something that is not a directory of the bundle.
    #[error("`{path}` has no directory to be in")]
    NoParent {
        /// The entry.
        path: String,
    },
    /// A directory with nothing in it.
    #[error("`{path}` is an empty directory")]
    EmptyDirectory {
        /// The directory.
        path: String,
    },
    /// Two sizes for one digest.
    #[error("`{path}` has the digest of another file but not its size")]
    SizeConflict {
        /// The second of the two files.
        path: String,
    },
    /// A symbolic link breaks the rules.
    #[error("the link `{path}` → `{}` cannot be in a bundle: {problem}", target.escape_debug())]
    Link {
        /// The link.
        path: String,
        /// Its text.
        target: String,
        /// The rule.
        problem: LinkProblem,
    },
}

impl Manifest {
    /// Sorts and checks `entries`.
    ///
    /// # Errors
    /// The first rule that is broken, with the path that breaks it.
    pub fn new(mut entries: Vec<Entry>) -> Result<Self, ManifestError> {
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Self::from_sorted(entries)
    }

    fn from_sorted(entries: Vec<Entry>) -> Result<Self, ManifestError> {
        if entries.len() > MAX_ENTRIES {
            return Err(ManifestError::TooManyEntries { found: entries.len() });
        }
        check_paths(&entries)?;
        check_directories(&entries)?;
        check_blobs(&entries)?;
        check_links(&entries)?;
        Ok(Self { entries })
    }

    /// All entries, in ascending order of the path's bytes; a directory comes before what is in it.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at `path`.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        let index = self.entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
        Some(&self.entries[index])
    }

    /// The regular files: path, executable, content.
    pub fn files(&self) -> impl Iterator<Item = (&str, bool, Blob)> {
        self.entries.iter().filter_map(|entry| match entry.kind {
            Kind::File { executable, blob } => Some((entry.path.as_str(), executable, blob)),
            Kind::Directory | Kind::Link { .. } => None,
        })
    }

    /// The distinct blobs, in the order in which files first need them: the order of an upload.
    pub fn blobs(&self) -> Vec<Blob> {
        let mut seen = HashSet::new();
        self.files().map(|(_, _, blob)| blob).filter(|blob| seen.insert(blob.digest)).collect()
    }

    /// Bytes in all files together.
    pub fn total_bytes(&self) -> u64 {
        self.files().map(|(_, _, blob)| blob.size).sum()
    }

    /// The bundle's name: the SHA-256 of the encoding.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }
}

fn check_paths(entries: &[Entry]) -> Result<(), ManifestError> {
    let mut folded: HashMap<String, &str> = HashMap::with_capacity(entries.len());
    let mut previous: Option<&str> = None;
    for Entry { path, .. } in entries {
        path::check(path).map_err(|problem| ManifestError::Path { path: path.clone(), problem })?;
        if previous.is_some_and(|previous| previous >= path.as_str()) {
            return Err(ManifestError::Order { path: path.clone() });
        }
        previous = Some(path);
        if let Some(first) = folded.insert(folded_path(path), path) {
            let (first, second) = (first.to_owned(), path.clone());
            return Err(match first.to_lowercase() == second.to_lowercase() {
                true => ManifestError::CaseCollision { first, second },
                false => ManifestError::FormCollision { first, second },
            });
        }
    }
    Ok(())
}

/// Equal for paths that some file system cannot tell apart.
fn folded_path(path: &str) -> String {
    let lower = path.to_lowercase();
    if lower.is_ascii() {
        lower
    } else {
        ComposingNormalizerBorrowed::new_nfc().normalize(&lower).into_owned()
    }
}

/// Every parent is listed as a directory, and every directory has something in it.
fn check_directories(entries: &[Entry]) -> Result<(), ManifestError> {
    let mut directories: HashSet<&str> = HashSet::new();
    let mut used: HashSet<&str> = HashSet::new();
    for Entry { path, kind } in entries {
        if let Some(parent) = path::parent(path) {
            if !directories.contains(parent) {
                return Err(ManifestError::NoParent { path: path.clone() });
            }
            used.insert(parent);
        }
        if *kind == Kind::Directory {
            directories.insert(path);
        }
    }
    let empty =
        entries.iter().find(|entry| entry.kind == Kind::Directory && !used.contains(entry.path.as_str()));
    empty.map_or(Ok(()), |entry| Err(ManifestError::EmptyDirectory { path: entry.path.clone() }))
}

fn check_blobs(entries: &[Entry]) -> Result<(), ManifestError> {
    let mut sizes: HashMap<Digest, u64> = HashMap::new();
    let mut total: u64 = 0;
    for entry in entries {
        let Kind::File { blob, .. } = entry.kind else { continue };
        total = total.saturating_add(blob.size);
        if *sizes.entry(blob.digest).or_insert(blob.size) != blob.size {
            return Err(ManifestError::SizeConflict { path: entry.path.clone() });
        }
    }
    if total > MAX_TOTAL_BYTES { Err(ManifestError::TooLarge) } else { Ok(()) }
}

fn check_links(entries: &[Entry]) -> Result<(), ManifestError> {
    let mut resolver = Resolver::new(entries);
    for Entry { path, kind } in entries {
        let Kind::Link { target } = kind else { continue };
        resolver.check(path, target).map_err(|problem| ManifestError::Link {
            path: path.clone(),
            target: target.clone(),
            problem,
        })?;
    }
    Ok(())
}
