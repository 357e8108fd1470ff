//! The flight record: what a sample is, and every byte of how samples are kept and sent.
//!
//! - [`Sample`], [`Process`], [`HostCounters`], [`Exit`]: raw counters as the kernel gave them; absent is not zero,
//! - `record`, [`Encoder`], [`Decoder`]: one sample, coded as what changed since the sample before it,
//! - [`Block`], [`Builder`]: many records behind one checked [`Header`], stream by stream, compressed; blocks travel
//!   as they lie on disk,
//! - [`tail`]: the write-ahead file of records that are not yet a block,
//! - [`oom`]: what the kernel says when it kills for want of memory, parsed from an [`Event`].
//!
//! The format is little-endian throughout. Nothing that is read here is trusted: damage is an error that says
//! what is wrong, never a panic, and no length is believed before it is checked.

mod block;
mod builder;
mod column;
mod decoder;
mod encoder;
mod focus;
mod gaps;
pub mod glance;
mod header;
mod host;
pub mod oom;
mod process;
mod record;
mod sample;
mod scope;
pub mod tail;
#[cfg(test)]
mod tests;
mod varint;

pub use block::{Block, Found, Samples, index, walk};
pub use builder::{Builder, GAP_INTERVALS, Packer, encode};
pub use column::Columns;
pub use decoder::Decoder;
pub use encoder::{Encoder, Limits};
pub use gaps::{Gap, gaps};
pub use header::{HEADER_BYTES, Header, MAGIC, VERSION};
pub use host::HostCounters;
pub use process::{Exit, ExitGroup, Identity, Process, places_of};
pub use record::{Contents, Prefix};
pub use sample::{BootId, Collector, Disk, Event, EventKind, Filesystem, Sample, Sources};
pub use scope::{Basis, OwnMemory};

/// Longest uncompressed body that is read: bounds what a hostile host can make a reader allocate.
pub const MAX_BODY_BYTES: usize = 64 << 20;

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
