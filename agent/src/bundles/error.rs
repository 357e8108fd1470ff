//! Why a bundle was not taken, found or removed.

use std::{
    io,
    path::{Path, PathBuf},
};

use proto::bundle::{Digest, ManifestError, UnpackError};

/// A failed operation on the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest breaks a rule.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest is another one than was named.
    #[error("the offer names bundle {named} and its manifest is that of {found}")]
    OtherManifest {
        /// The digest in the offer.
        named: Digest,
        /// The digest of the manifest in the offer.
        found: Digest,
    },
    /// An upload without an offer, or the offer was forgotten (the agent restarted, or many others came after).
    #[error("bundle {digest} was not offered, or the agent restarted since: offer it again")]
    NotOffered {
        /// The bundle.
        digest: Digest,
    },
    /// The bundle is not here.
    #[error("bundle {digest} is not on this host: push it again")]
    Absent {
        /// The bundle.
        digest: Digest,
    },
    /// A kept bundle is not what its name says.
    #[error(
        "bundle {digest} was changed on this host: `{path}` is not what its manifest says; apply it again to send it anew"
    )]
    Damaged {
        /// The bundle.
        digest: Digest,
        /// The first path that differs, relative to the tree.
        path: String,
    },
    /// A blob was counted on and is gone: a kept bundle was removed since the offer.
    #[error("blob {digest} was here when the bundle was offered and is gone: offer the bundle again")]
    BlobGone {
        /// The blob.
        digest: Digest,
    },
    /// The stream is not what was announced.
    #[error(transparent)]
    Upload(UnpackError),
    /// Not enough room, found out before anything was written.
    #[error(
        "the disk is full: {} has {} MiB and {free_inodes} inodes free, and the bundle needs {} MiB and {needed_inodes} inodes besides a reserve of {} MiB",
        path.display(), free_bytes >> 20, needed_bytes.div_ceil(1 << 20), reserve_bytes >> 20
    )]
    NoSpace {
        /// A directory of the file system.
        path: PathBuf,
        /// Bytes available to the agent.
        free_bytes: u64,
        /// Inodes available.
        free_inodes: u64,
        /// Bytes that the bundle's new files take on the disk.
        needed_bytes: u64,
        /// Inodes that the bundle takes.
        needed_inodes: u64,
        /// Bytes that must stay free afterwards.
        reserve_bytes: u64,
    },
    /// A system call failed.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// A verb.
        what: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Shorthand for this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err`: `cannot <what> <path>: <cause>`.
    pub(super) fn io<E: Into<io::Error>>(what: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { what, path: path.to_owned(), source: source.into() }
    }

    /// Whether the disk is full, be it found out before or while writing.
    pub fn is_full(&self) -> bool {
        match self {
            Self::NoSpace { .. } => true,
            Self::Io { source, .. } | Self::Upload(UnpackError::Write { source, .. }) => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}
