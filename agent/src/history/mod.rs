//! The flight record on disk.
//!
//! ```text
//! history/lock                      held by the one recorder
//! history/tail                      the newest records, each synced as it came
//! history/<first sequence>.blocks   segments: blocks one after the other
//! history/tail.damaged              a tail that could not be read, kept for people
//! ```
//!
//! A sample is first appended to the tail and synced. When the tail is long enough it becomes a block at the end of
//! the newest segment, and only then a new tail takes its place. So every sample is in one of the two at any time,
//! and in both after a crash in between, which the sequence numbers tell. The bytes are `proto::history`'s.

mod follower;
mod lock;
mod reader;
pub mod retention;
mod segment;
mod status;
#[cfg(test)]
mod tests;
mod writer;

pub use follower::Follower;
pub use reader::{Blocks, Reader, StoredBlock};
pub use retention::Policy;
pub use status::{Status, status};
pub use writer::Writer;

use std::{
    io,
    path::{Path, PathBuf},
};

/// Name of the write-ahead file.
pub const TAIL: &str = "tail";

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
    /// A sample that no reader would accept.
    #[error("a sample of {0} bytes is too large to be stored")]
    TooLarge(usize),
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
