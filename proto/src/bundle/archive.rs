//! The stream of missing blobs: one zstd frame around one ustar archive.
//!
//! Each blob is an entry whose name is its digest in hex, in the order of the manifest; owner, times and mode are
//! constants. The receiver knows digests and sizes from the manifest, so it never *parses* a header: it builds the
//! only valid next header and compares 512 bytes. Hardlinks, devices, pax records, sparse maps and tricks with sizes
//! therefore need no special handling: they are just different bytes. `tar --zstd -t` still lists a saved stream.
//!
//! Limits: output by the sizes in the manifest, which has limits of its own; input by [`input_limit`]; memory by the
//! window.

mod pack;
#[cfg(test)]
mod tests;
mod unpack;

use tar::{EntryType, Header};

use super::Blob;

pub use pack::{PackError, pack};
pub use unpack::{UnpackError, unpack};

/// Block size of a tar archive, in bytes.
const BLOCK: usize = 512;

/// Two blocks of zeros end an archive (`pax(1)`, "ustar Interchange Format").
const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Size of reads and writes, in bytes; larger than nearly every file of a Puppet tree.
const BUFFER: usize = 128 << 10;

/// Maximum zstd window, as a power of two: 8 MiB, as used by level 19 and below.
const WINDOW_LOG_MAX: u32 = 23;

/// The only valid header for a blob.
fn header(blob: &Blob) -> Header {
    let mut header = Header::new_ustar();
    header.set_path(blob.digest.to_string()).expect("64 characters fit the name field");
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(blob.size);
    header.set_cksum();
    header
}

/// Number of zeros after a blob of `size` bytes, up to a whole block.
fn padding(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK as u64) as usize
}

/// Size of the uncompressed archive, in bytes.
fn archive_size(blobs: &[Blob]) -> u64 {
    let entries: u64 = blobs.iter().map(|blob| BLOCK as u64 + blob.size + padding(blob.size) as u64).sum();
    entries + END.len() as u64
}

/// Maximum compressed size that an honest sender needs, in bytes: `ZSTD_compressBound` (size + size/256 and a little),
/// rounded up. Without this limit, a frame of empty blocks would keep the receiver reading forever.
fn input_limit(blobs: &[Blob]) -> u64 {
    let size = archive_size(blobs);
    size + size / 128 + (64 << 10)
}
