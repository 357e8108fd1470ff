//! Placeholder.
pub mod bundles;
