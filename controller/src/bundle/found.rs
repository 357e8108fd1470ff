//! What belongs to a bundle: paths, with content or the text of a link.

use super::content::Content;

/// Something that belongs to the bundle.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// In the bundle.
    pub(super) path: String,
    pub(super) kind: FoundKind,
}

/// What was found.
#[derive(Clone, Debug)]
pub(super) enum FoundKind {
    File(Content),
    /// A link, and its text in the bundle.
    Link(String),
}
