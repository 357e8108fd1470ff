//! Why stored bytes cannot be read.

use super::{VERSION, header::OLDEST};

/// Why stored bytes cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The bytes end too early, for example after a write that a crash interrupted.
    #[error("cut short")]
    Cut,
    /// A block or tail does not begin with its magic number.
    #[error("no magic number where a block or tail should begin")]
    Magic,
    /// Bytes changed after they were written.
    #[error("checksum does not match")]
    Checksum,
    /// Written in another version of the format.
    #[error("format version {found}, but this program reads {OLDEST} to {VERSION}: use the matching version")]
    Version {
        /// The version in the file.
        found: u16,
    },
    /// The checksum is valid, but the content is not.
    #[error("inconsistent content: {0}")]
    Inconsistent(&'static str),
}
