//! The entries of a bundle: directories, files and links, with their paths.

use super::digest::Digest;

/// A path in a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the bundle's root; see [`path`].
    pub path: String,
    /// Directory, file or link.
    pub kind: Kind,
}

/// The type of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory, mode 0755.
    Directory,
    /// A regular file.
    File {
        /// Mode 0755 instead of 0644.
        executable: bool,
        /// Content of the file.
        blob: Blob,
    },
    /// A symbolic link that ends inside the bundle; see [`super::link`].
    Link {
        /// Text of the link.
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
