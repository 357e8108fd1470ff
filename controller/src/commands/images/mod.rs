//! Verbs on images.

pub(super) mod bake;
pub(super) mod image;
