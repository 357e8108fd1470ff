//! The entries of a bundle: paths, with content or a link's target.

use super::content::Content;

/// An entry of the bundle.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Path in the bundle.
    pub(super) path: String,
    pub(super) kind: FoundKind,
}

/// The kind of an entry.
#[derive(Clone, Debug)]
pub(super) enum FoundKind {
    File(Content),
    /// A link, and its target in the bundle.
    Link(String),
}
