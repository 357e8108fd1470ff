//! The flight record on disk.
//!
//! ```text
//! history/lock                      held by the one recorder
//! history/tail.a, history/tail.b    the newest records, each synced as it came; written over again and again
//! history/<first sequence>.blocks   segments: blocks one after the other
//! history/tail.a.damaged            a tail that could not be read, kept for people
//! ```
//!
//! A record is first appended to a tail and synced. A key record begins the other tail; then what the first one holds
//! becomes a block at the end of the newest segment. So every sample is in one of the two at any time, and in both
//! until the tail is begun anew, which the sequence numbers tell. The bytes are those of `format`.

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

/// Why the record cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another recorder writes here.
    #[error("another recorder already writes to {}", .0.display())]
    Held(PathBuf),
    /// The operating system refused something.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried: a verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A record that no reader would accept.
    #[error("a sample cannot be stored: {0}")]
    Record(Damage),
    /// A record that leans on one that was lost.
    #[error("a sample cannot be stored because the one before it is lost")]
    NoKey,
}

impl Error {
    /// Whether there is no space left.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

/// Says of an I/O error what was being done to what.
fn while_trying(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { doing, path: path.to_path_buf(), source }
}
