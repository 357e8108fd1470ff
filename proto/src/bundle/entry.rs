//! What a bundle consists of: directories, files and links, by path.

use super::digest::Digest;

/// One path of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the bundle's root; see [`path`].
    pub path: String,
    /// What is there.
    pub kind: Kind,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory, mode 0755.
    Directory,
    /// A regular file.
    File {
        /// Mode 0755 instead of 0644.
        executable: bool,
        /// Its content.
        blob: Blob,
    },
    /// A symbolic link that ends inside the bundle; see [`super::link`].
    Link {
        /// The link's text.
        target: String,
    },
}

/// The content of a file: a digest and its size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Blob {
    /// SHA-256 of the content.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
}
