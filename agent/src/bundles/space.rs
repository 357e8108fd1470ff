//! Checks whether a bundle fits on the disk, before the first byte is written.

use std::path::Path;

use nix::sys::statvfs::statvfs;
use proto::bundle::{Blob, Manifest};

use super::{Error, Result};

/// Space that must stay free: this, or a twentieth of a small file system. Run logs and the flight record need it.
const RESERVE_BYTES: u64 = 256 << 20;

/// Free space of a file system.
#[derive(Clone, Copy, Debug)]
struct Free {
    total_bytes: u64,
    bytes: u64,
    inodes: u64,
    block: u64,
}

/// Checks that the file system of `directory` has space for `manifest`, if `missing` is written and the rest is linked.
pub(super) fn require(directory: &Path, manifest: &Manifest, missing: &[Blob]) -> Result<()> {
    let stat = statvfs(directory).map_err(Error::io("ask the free space of", directory))?;
    let block = stat.fragment_size().max(1);
    // Some file systems (btrfs) have no inode table and report 0 of 0.
    let inodes = if stat.files() == 0 { u64::MAX } else { stat.files_available() };
    let free = Free {
        total_bytes: stat.blocks().saturating_mul(block),
        bytes: stat.blocks_available().saturating_mul(block),
        inodes,
        block,
    };
    check(directory, free, manifest, missing)
}

fn check(directory: &Path, free: Free, manifest: &Manifest, missing: &[Blob]) -> Result<()> {
    let entries = manifest.entries().len() as u64;
    // Directories, links and the manifest count as one block for each entry.
    let contents: u64 = missing.iter().map(|blob| blob.size.next_multiple_of(free.block)).sum();
    let needed_bytes = contents + entries * free.block;
    let reserve_bytes = RESERVE_BYTES.min(free.total_bytes / 20);
    if needed_bytes + reserve_bytes <= free.bytes && entries <= free.inodes {
        return Ok(());
    }
    Err(Error::NoSpace {
        path: directory.to_owned(),
        free_bytes: free.bytes,
        free_inodes: free.inodes,
        needed_bytes,
        needed_inodes: entries,
        reserve_bytes,
    })
}

#[cfg(test)]
mod tests {
    use proto::bundle::{Digest, Entry, Kind};

    use super::*;

    fn bundle(size: u64) -> (Manifest, Vec<Blob>) {
        let blob = Blob { digest: Digest::of(b"x"), size };
        let entry = Entry { path: "x".to_owned(), kind: Kind::File { executable: false, blob } };
        (Manifest::new(vec![entry]).expect("a valid tree"), vec![blob])
    }

    fn check_free(bytes: u64, inodes: u64, size: u64) -> Result<()> {
        let free = Free { total_bytes: 10 << 30, bytes, inodes, block: 4096 };
        let (manifest, missing) = bundle(size);
        check(Path::new("/bundles"), free, &manifest, &missing)
    }

    #[test]
    fn the_reserve_stays_free() {
        let needed = (1 << 20) + 4096;
        assert!(check_free(RESERVE_BYTES + needed, 100, 1 << 20).is_ok());
        let error = check_free(RESERVE_BYTES + needed - 1, 100, 1 << 20).expect_err("one byte short");
        assert!(error.is_full());
        assert_eq!(
            error.to_string(),
            "the disk is full: /bundles has 257 MiB and 100 inodes free, and the bundle needs 2 MiB and 1 inode plus a reserve of 256 MiB"
        );
    }

    #[test]
    fn inodes_count_too() {
        assert!(check_free(u64::MAX, 0, 1).expect_err("no inode").is_full());
    }
}
