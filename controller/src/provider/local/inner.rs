//! The local provider's shared state.

use std::path::PathBuf;

use super::state::StateDir;
use crate::provider::ImageSpec;

/// The blocking half of the local provider; it does not use the async runtime.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) state: StateDir,
    /// Hex digits in the names of this state directory's cgroups.
    pub(super) hash: String,
    /// Program to start for work in namespaces.
    pub(super) ctl: PathBuf,
    /// Contents of the hosts' image.
    pub(super) spec: ImageSpec,
}
