//! Errors of the bundle store.

use std::{
    io,
    path::{Path, PathBuf},
};

use proto::{
    bundle::{Digest, ManifestError, UnpackError},
    units::counted,
};

/// Why an operation on the store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest is invalid.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest does not have the digest in the offer.
    #[error("the offer names bundle {named}, but its manifest is that of {found}")]
    OtherManifest {
        /// The digest in the offer.
        named: Digest,
        /// The digest of the manifest in the offer.
        found: Digest,
    },
    /// An upload without an offer, or the offer was discarded (the agent restarted, or many other offers followed).
    #[error("bundle {digest} was not offered, or the agent has restarted: offer it again")]
    NotOffered {
        /// Digest of the bundle.
        digest: Digest,
    },
    /// The bundle is not on this host.
    #[error("bundle {digest} is not on this host: push it again")]
    Absent {
        /// Digest of the bundle.
        digest: Digest,
    },
    /// A kept bundle does not match its digest.
    #[error(
        "bundle {digest} was changed on this host: `{path}` does not match its manifest; apply it again to resend it"
    )]
    Damaged {
        /// Digest of the bundle.
        digest: Digest,
        /// The first path that differs, relative to the tree.
        path: String,
    },
    /// A bundle that shared this blob was removed after the offer.
    #[error("blob {digest} was removed after the bundle was offered: offer the bundle again")]
    BlobGone {
        /// Digest of the blob.
        digest: Digest,
    },
    /// The stream does not match the announced blobs.
    #[error(transparent)]
    Upload(UnpackError),
    /// There is not enough space; detected before the first write.
    #[error(
        "the disk is full: {} has {} MiB and {} free, and the bundle needs {} MiB and {} plus a reserve of {} MiB",
        path.display(), free_bytes >> 20, counted(*free_inodes, "inode"),
        needed_bytes.div_ceil(1 << 20), counted(*needed_inodes, "inode"), reserve_bytes >> 20
    )]
    NoSpace {
        /// A directory on the file system.
        path: PathBuf,
        /// Bytes available to the agent.
        free_bytes: u64,
        /// Inodes available.
        free_inodes: u64,
        /// Bytes that the bundle's new files need on the disk.
        needed_bytes: u64,
        /// Inodes that the bundle needs.
        needed_inodes: u64,
        /// Bytes that must stay free afterwards.
        reserve_bytes: u64,
    },
    /// A system call failed.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb.
        what: &'static str,
        /// The path of the operation.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
}

/// `Result` with this module's error.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err`: `cannot <what> <path>: <cause>`.
    pub(super) fn io<E: Into<io::Error>>(what: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { what, path: path.to_owned(), source: source.into() }
    }

    /// Whether the disk is full, detected before or during a write.
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
