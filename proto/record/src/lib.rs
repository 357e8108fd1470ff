//! The flight record: what a sample is, and every byte of how samples are kept and sent.
//!
//! - [`Sample`], [`Process`], [`HostCounters`], [`Exit`]: raw counters as the kernel gave them; absent is not zero,
//! - [`Encoder`], [`Decoder`]: one sample, coded as what changed since the sample before it,
//! - [`Block`], [`Builder`]: many records behind one checked [`Header`], stream by stream, compressed; blocks travel
//!   as they lie on disk,
//! - [`tail`]: the write-ahead file of records that are not yet a block,
//! - [`directory`]: segments and tails on a disk, written by one recorder and read by anybody,
//! - [`oom`]: what the kernel says when it kills for want of memory, parsed from an [`Event`].
//!
//! The format is little-endian throughout. Nothing that is read here is trusted: damage is an error that says
//! what is wrong, never a panic, and no length is believed before it is checked.
//!
//! There is no network, no TLS and no async runtime in here: the recorder, which is locked in memory, is built on it.

pub mod directory;
mod format;
pub mod oom;
mod sample;

pub use format::{
    Block, Builder, Columns, Contents, Damage, Decoder, Encoder, GAP_INTERVALS, Gap, HEADER_BYTES, Header,
    Limits, MAGIC, MAX_BODY_BYTES, Packer, Prefix, Samples, VERSION, encode, gaps, index, tail,
};
pub use sample::{
    Basis, BootId, Collector, Disk, Event, EventKind, Exit, ExitGroup, Filesystem, HostCounters, Identity,
    NotABootId, OwnMemory, Process, Sample, Sources, places_of,
};
