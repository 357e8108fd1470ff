//! Selects blocks by time, processes and contents.

use std::collections::BTreeSet;

use crate::{Contents, Header, index};

/// Selects the wanted part of a record. Blocks are returned whole, so they may contain more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Only blocks with samples at or after this wall time, ms since the Unix epoch.
    pub from_ms: i64,
    /// Only blocks with samples at or before this wall time, ms since the Unix epoch.
    pub until_ms: i64,
    /// Only blocks with at least one of these processes; empty: all blocks.
    pub pids: BTreeSet<u32>,
    /// Only blocks with at least one of these kinds of data; none set: all blocks.
    pub contents: Contents,
}

impl Default for Filter {
    /// Everything.
    fn default() -> Self {
        Self::between(i64::MIN, i64::MAX)
    }
}

impl Filter {
    /// Everything between two wall times, both included.
    pub fn between(from_ms: i64, until_ms: i64) -> Self {
        Self { from_ms, until_ms, pids: BTreeSet::new(), contents: Contents::default() }
    }

    /// No blocks, but all losses.
    pub(super) fn nothing() -> Self {
        Self::between(i64::MIN, i64::MIN)
    }

    /// Whether a block may be wanted, judged by its header alone.
    pub(super) fn admits(&self, header: &Header) -> bool {
        let contents = self.contents == Contents::default() || header.contents.intersects(self.contents);
        contents && header.overlaps(self.from_ms, self.until_ms)
    }

    /// Whether a block may be wanted, judged by its index.
    ///
    /// A block with an unreadable index counts as wanted: then its checksum is verified, and if that is correct, the decoder
    /// reports the error.
    pub(super) fn admits_processes(&self, header: &Header, bytes: &[u8]) -> bool {
        let mut found = self.pids.is_empty();
        let read = index(header, bytes, |identity| found |= self.pids.contains(&identity.pid));
        found || read.is_err()
    }
}
