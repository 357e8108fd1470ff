//! Bundles: immutable trees of Puppet code, named by the digest of their manifest.
//!
//! - [`manifest`]: the ordered list of directories, files and links, and its canonical encoding,
//! - [`path`] and [`link`]: which names and link targets a bundle may contain,
//! - [`environment`]: what Puppet reads first,
//! - [`archive`]: the stream of missing blobs, packed by the controller and unpacked by the agent,
//! - [`provenance`]: the origin of a tree; not part of the digest.
//!
//! Everything here is synchronous, works on `Read` and `Write`, and uses no absolute paths, so that the same property
//! tests cover both ends. The same tree has the same digest on every machine: owners, times, empty directories and mode
//! bits other than "executable" are not part of a bundle.

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

/// Maximum number of entries in a manifest.
pub const MAX_ENTRIES: usize = 100_000;

/// Maximum size of all files of a bundle together, in bytes; content is counted for each of its paths.
pub const MAX_TOTAL_BYTES: u64 = 512 << 20;

/// Maximum size of an encoded manifest, in bytes; both ends raise their message limit to this for the `Bundles`
/// service.
pub const MAX_MANIFEST_BYTES: usize = 32 << 20;

/// Maximum size of a piece of an upload, in bytes.
pub const CHUNK_BYTES: usize = 256 << 10;
