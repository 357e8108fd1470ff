//! What is shipped: an immutable tree of Puppet code, named by the digest of its manifest.
//!
//! - [`manifest`]: the ordered list of directories, files and links, and its canonical encoding,
//! - [`path`] and [`link`]: which names and link targets a bundle may hold,
//! - [`environment`]: what of it Puppet reads first,
//! - [`archive`]: the stream of missing blobs, packed by the controller and unpacked by the agent,
//! - [`provenance`]: where a tree came from; beside the digest, never inside it.
//!
//! Everything here is synchronous, works on `Read` and `Write`, and knows no absolute path, so that one
//! property test guards both ends. Same tree, same digest, on every machine: owners, times, empty directories and
//! mode bits other than "executable" do not exist in a bundle.

pub mod archive;
mod digest;
mod entry;
pub mod environment;
pub mod link;
pub mod manifest;
pub mod path;
pub mod provenance;

pub use archive::{PackError, UnpackError, pack, unpack};
pub use digest::{Digest, Hasher, NotADigest};
pub use entry::{Blob, Entry, Kind};
pub use manifest::{Manifest, ManifestError};
pub use provenance::Provenance;

/// Most entries in a manifest.
pub const MAX_ENTRIES: usize = 100_000;

/// Most bytes in all files of a bundle together, counted once for each path.
pub const MAX_TOTAL_BYTES: u64 = 512 << 20;

/// Largest encoded manifest in bytes; both ends raise their message limit to this for the `Bundles` service.
pub const MAX_MANIFEST_BYTES: usize = 32 << 20;

/// Largest piece of an upload in bytes.
pub const CHUNK_BYTES: usize = 256 << 10;
