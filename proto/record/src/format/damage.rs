//! Why stored bytes cannot be read.

use super::VERSION;

/// Why stored bytes cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The bytes end too early: a write that a crash cut short.
    #[error("cut short")]
    Cut,
    /// What stands here is not what should begin here.
    #[error("no magic number where a block or tail should begin")]
    Magic,
    /// Bits changed after they were written.
    #[error("checksum does not match")]
    Checksum,
    /// Written by another version of the format.
    #[error("format version {found}, but this program reads version {VERSION}: use the matching version")]
    Version {
        /// The version found.
        found: u16,
    },
    /// The checksum is right but the content makes no sense.
    #[error("inconsistent content: {0}")]
    Inconsistent(&'static str),
}
