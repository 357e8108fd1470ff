//! The origin of a bundle. Not part of the digest: the same tree from two people is the same bundle.

use serde::{Deserialize, Serialize};

use crate::pb;

/// Origin, author and time of a bundle. Stored beside the bundle as `provenance.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Full commit id; empty if the tree is not in git.
    pub commit: String,
    /// Paths that differ from the commit, relative to the bundle's root.
    pub dirty: Vec<String>,
    /// An e-mail address or a login name.
    pub who: String,
    /// Time of creation, in milliseconds since 1970.
    pub when_unix_ms: i64,
}

impl From<pb::Provenance> for Provenance {
    fn from(pb: pb::Provenance) -> Self {
        Self { commit: pb.commit, dirty: pb.dirty, who: pb.who, when_unix_ms: pb.when_unix_ms }
    }
}

impl From<Provenance> for pb::Provenance {
    fn from(own: Provenance) -> Self {
        Self { commit: own.commit, dirty: own.dirty, who: own.who, when_unix_ms: own.when_unix_ms }
    }
}
