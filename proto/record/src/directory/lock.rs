//! The lock that shows that a recorder is running. An open-file-description lock (fcntl(2)) can be queried without
//! taking it, and the kernel releases it however the holder ends.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};

use super::{Error, while_trying};

fn path(directory: &Path) -> PathBuf {
    directory.join("lock")
}

/// A write lock on the whole file.
fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Takes the lock, which is held until the returned file is closed.
pub(super) fn take(directory: &Path) -> Result<File, Error> {
    let path = path(directory);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(while_trying("open", &path))?;
    match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
        Ok(_) => Ok(file),
        Err(Errno::EAGAIN | Errno::EACCES) => Err(Error::Held(directory.to_path_buf())),
        Err(errno) => Err(while_trying("lock", &path)(errno.into())),
    }
}

/// Whether a process holds the lock.
pub(super) fn is_held(directory: &Path) -> io::Result<bool> {
    let file = match File::open(path(directory)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut lock = whole_file();
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(libc::c_int::from(lock.l_type) != libc::F_UNLCK)
}
