//! Files that are complete or absent, even after a power failure.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Writes a file of mode 0600 atomically, replacing any previous one. Content and name are durable on return.
///
/// # Errors
/// If the write fails; the previous file is unchanged.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = draft(path);
    let mut file = open(&draft)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    sync_parent(path)
}

/// Reserves disk space for a later [`write()`], which then succeeds even if the disk is full by that time.
///
/// # Errors
/// If there is not enough space.
pub(crate) fn reserve(path: &Path, bytes: usize) -> io::Result<()> {
    open(&draft(path))?.write_all(&vec![0; bytes])
}

/// Makes the directory entries beside `path` durable.
///
/// # Errors
/// If the directory cannot be synced.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

fn draft(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Opens the draft without truncating it, which keeps its reserved space.
fn open(draft: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).mode(0o600).open(draft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_kept_room_leaves_no_trace() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("result.pb");
        for text in ["a long first text", "short"] {
            reserve(&path, 100).unwrap();
            write(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        }
    }
}
