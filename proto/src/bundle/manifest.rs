//! The manifest: lists a bundle's content; its SHA-256 is the bundle's name.
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
//! Integers are little-endian. Each tree has exactly one encoding: [`Manifest::decode`] refuses whatever
//! [`Manifest::encode`] would not write. Directories have mode 0755 and are listed if and only if they are not empty.
//! No two paths may differ only in case or only in Unicode form (one letter, or a letter and a mark): a checkout on
//! macOS could not hold both, and people could not tell them apart.

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

/// A valid tree: values of this type obey every rule of this module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
}

/// Why entries do not make a manifest, or why bytes do not encode one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The magic number is missing.
    #[error("these bytes are not a bundle manifest")]
    NotAManifest,
    /// The format has a different version.
    #[error(
        "the manifest has format {found}, but this build reads format {VERSION}: install the same version of agent and ctl"
    )]
    Version {
        /// The manifest's version.
        found: u16,
    },
    /// The bytes end within an entry.
    #[error("the manifest ends in the middle of entry {entry}")]
    Truncated {
        /// Index of the entry, from 0.
        entry: usize,
    },
    /// Bytes follow after the last entry.
    #[error("{bytes} bytes follow the last entry of the manifest")]
    Trailing {
        /// Number of bytes.
        bytes: usize,
    },
    /// An entry's kind is unknown.
    #[error("entry {entry} of the manifest is of unknown kind {found}")]
    UnknownKind {
        /// Index of the entry, from 0.
        entry: usize,
        /// The entry's kind.
        found: u8,
    },
    /// There are more than [`MAX_ENTRIES`] entries.
    #[error("the bundle has {found} entries, more than the {MAX_ENTRIES} allowed")]
    TooManyEntries {
        /// Number of entries.
        found: usize,
    },
    /// All files together have more than [`MAX_TOTAL_BYTES`].
    #[error("the bundle's files are larger than {} MiB in total", MAX_TOTAL_BYTES >> 20)]
    TooLarge,
    /// A path is invalid.
    #[error("`{}` cannot be in a bundle: {problem}", path.escape_debug())]
    Path {
        /// The path, possibly decoded lossily.
        path: String,
        /// The violated rule.
        problem: PathProblem,
    },
    /// The paths are not in ascending order, or a path occurs twice.
    #[error("`{path}` is in the manifest twice or out of order")]
    Order {
        /// The second of the two paths.
        path: String,
    },
    /// Two paths differ only in case.
    #[error("`{first}` and `{second}` differ only in case, which some file systems do not support")]
    CaseCollision {
        /// One path.
        first: String,
        /// The other.
        second: String,
    },
    /// Two paths differ only in Unicode form.
    #[error("`{first}` is in the bundle twice, in two forms of Unicode that look the same")]
    FormCollision {
        /// One path.
        first: String,
        /// The other.
        second: String,
    },
    /// An entry's parent is not a directory of the bundle.
    #[error("`{path}` is not in a directory of the bundle")]
    NoParent {
        /// Path of the entry.
        path: String,
    },
    /// A directory is empty.
    #[error("`{path}` is an empty directory")]
    EmptyDirectory {
        /// Path of the directory.
        path: String,
    },
    /// Two files have the same digest but different sizes.
    #[error("`{path}` has the digest of another file, but a different size")]
    SizeConflict {
        /// Path of the second file.
        path: String,
    },
    /// A symbolic link is invalid.
    #[error("the link `{path}` → `{}` cannot be in a bundle: {problem}", target.escape_debug())]
    Link {
        /// Path of the link.
        path: String,
        /// Text of the link.
        target: String,
        /// The violated rule.
        problem: LinkProblem,
    },
}

impl Manifest {
    /// Sorts and checks `entries`.
    ///
    /// # Errors
    /// The first violated rule, with the path.
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

    /// All entries, in ascending order of the path's bytes; a directory precedes its content.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at `path`, if any.
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

    /// The distinct blobs, in the order of the first files that need them: the order of an upload.
    pub fn blobs(&self) -> Vec<Blob> {
        let mut seen = HashSet::new();
        self.files().map(|(_, _, blob)| blob).filter(|blob| seen.insert(blob.digest)).collect()
    }

    /// Size of all files together, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.files().map(|(_, _, blob)| blob.size).sum()
    }

    /// The bundle's name: the SHA-256 of the encoded manifest.
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

/// Maps paths that some file system cannot distinguish to the same string.
fn folded_path(path: &str) -> String {
    let lower = path.to_lowercase();
    if lower.is_ascii() {
        lower
    } else {
        ComposingNormalizerBorrowed::new_nfc().normalize(&lower).into_owned()
    }
}

/// Checks that every parent is listed as a directory, and that no directory is empty.
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
