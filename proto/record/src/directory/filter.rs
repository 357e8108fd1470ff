//! What of a record is wanted.

use std::collections::BTreeSet;

use crate::{Contents, Header, index};

/// What of a record is wanted. What is given may be more: blocks are not cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Only blocks with samples from this wall time on, ms since the Unix epoch.
    pub from_ms: i64,
    /// Only blocks with samples up to this wall time, which is included.
    pub until_ms: i64,
    /// Only blocks in which one of these processes occurs; empty: all.
    pub pids: BTreeSet<u32>,
    /// Only blocks with any of this in them; nothing: all.
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

    /// No block, but every word on what is lost.
    pub(super) fn nothing() -> Self {
        Self::between(i64::MIN, i64::MIN)
    }

    /// Whether a block may be wanted, by its header alone.
    pub(super) fn admits(&self, header: &Header) -> bool {
        let contents = self.contents == Contents::default() || header.contents.intersects(self.contents);
        contents && header.overlaps(self.from_ms, self.until_ms)
    }

    /// Whether a block may be wanted, by its index.
    ///
    /// A block whose index cannot be read is wanted: the checksum of all of it tells whether it is damaged, and if that is
    /// right, whoever decodes it tells what is wrong.
    pub(super) fn admits_processes(&self, header: &Header, bytes: &[u8]) -> bool {
        let mut found = self.pids.is_empty();
        let read = index(header, bytes, |identity| found |= self.pids.contains(&identity.pid));
        found || read.is_err()
    }
}
