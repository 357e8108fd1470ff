//! The flight record: the content of a sample, and every byte of how samples are stored and sent.
//!
//! - [`Sample`], [`Process`], [`HostCounters`], [`Group`], [`Exit`]: raw counters from the kernel; absent is not zero,
//! - [`Encoder`], [`Decoder`]: encode a sample as its changes since the previous one,
//! - [`Block`], [`Builder`]: many records behind one checked [`Header`], in compressed streams; blocks are sent as they
//!   are stored,
//! - [`tail`]: the write-ahead file of records that are not yet in a block,
//! - [`directory`]: segments and tails on disk, with one writer and any number of readers,
//! - [`oom`]: the kernel's messages about an out-of-memory kill, parsed from an [`Event`].
//!
//! The format is little-endian throughout. No input is trusted: damage is an error that says what is wrong, never a
//! panic, and every length is checked before use.
//!
//! This crate has no network, no TLS and no async runtime, because the recorder, which is locked in memory, uses it.

pub mod directory;
mod format;
pub mod oom;
mod sample;

pub use format::{
    Block, Builder, Columns, Contents, Damage, Decoder, Encoder, GAP_INTERVALS, Gap, HEADER_BYTES, Header,
    Limits, MAGIC, MAX_BODY_BYTES, Packer, Prefix, Samples, VERSION, encode, gaps, index, tail,
};
pub use sample::{
    Basis, BootId, Collector, Disk, Event, EventKind, Exit, ExitGroup, Filesystem, Group, GroupCounters,
    HostCounters, Identity, NotABootId, OwnMemory, Process, Sample, Sources, places_of,
};
