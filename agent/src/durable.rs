//! Files that are whole or not there, also after a power cut.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Writes a file of mode 0600 that appears, or is replaced, whole. Durable on return, with its name.
///
/// # Errors
/// When the disk refuses; what was there under this name before is still there.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = draft(path);
    let mut file = open(&draft)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    sync_parent(path)
}

/// Keeps room on the disk for a file that [`write()`] will make, so that a disk that is full by then does not matter.
///
/// # Errors
/// When there is no room.
pub(crate) fn reserve(path: &Path, bytes: usize) -> io::Result<()> {
    open(&draft(path))?.write_all(&vec![0; bytes])
}

/// Makes the names in the directory of `path` durable.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

fn draft(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Opens a draft with the room that it has, rather than cut it to nothing.
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
