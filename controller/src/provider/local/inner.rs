//! What every deed of the local provider has at hand.

use std::path::PathBuf;

use super::state::StateDir;
use crate::provider::ImageSpec;

/// The local provider's own half: it blocks, and knows nothing of the runtime.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) state: StateDir,
    /// Hex digits that tell this state directory's cgroups from others'.
    pub(super) hash: String,
    /// The program to start for namespace work.
    pub(super) ctl: PathBuf,
    /// What its hosts boot from.
    pub(super) spec: ImageSpec,
}
