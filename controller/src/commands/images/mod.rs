//! Commands for images.

pub(super) mod bake;
pub(super) mod image;
