//! The flight record on disk.
//!
//! ```text
//! history/lock                      locked by the running recorder
//! history/tail.a, history/tail.b    the newest records, each synced immediately; overwritten in turn
//! history/<first sequence>.blocks   segments: consecutive blocks
//! history/tail.a.damaged            an unreadable tail, kept for inspection
//! ```
//!
//! A record is first appended to a tail and synced. A key record starts the other tail; then the contents of the first
//! tail become a block at the end of the newest segment. So every sample is always in a tail or in a segment. Until the
//! tail is overwritten it is in both, and readers recognize it by its sequence number. `format` defines the bytes.

mod blocks;
mod filter;
mod follower;
mod lock;
mod names;
mod overlap;
mod reader;
pub mod retention;
mod segment;
mod status;
mod tails;
#[cfg(test)]
mod tests;
mod unsealed;
mod writer;

pub use blocks::{Blocks, StoredBlock};
pub use filter::Filter;
pub use follower::Follower;
pub use names::{SUFFIX, TAILS, holds_samples, segment_path};
pub use reader::Reader;
pub use retention::Policy;
pub use status::{Status, newest, status, total_bytes};
pub use writer::Writer;

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::Damage;

/// Why a record cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another recorder writes here.
    #[error("another recorder already writes to {}", .0.display())]
    Held(PathBuf),
    /// An I/O error.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What failed: a verb.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The record is invalid: no reader would accept it.
    #[error("invalid sample: {0}")]
    Record(Damage),
    /// The record is a difference from a record that was lost.
    #[error("the sample depends on one that was lost")]
    NoKey,
}

impl Error {
    /// Whether the disk or the quota is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

/// `1 byte`, `2 bytes`.
fn counted(count: u64, unit: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

/// Adds the operation and the path to an I/O error.
fn while_trying(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { doing, path: path.to_path_buf(), source }
}
