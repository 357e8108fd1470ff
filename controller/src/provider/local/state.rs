//! The state directory: its layout and its locks.
//!
//! ```text
//! <state>/lock                 held while a name and an address are chosen, or unused images are renamed
//! <state>/cloud/lock           held while the cloud starts or is removed
//! <state>/cloud/users          every running host holds a shared lock; the holder exits when it gets an exclusive one
//! <state>/cloud/holder         locked by the process that holds the namespaces, contains its pid
//! <state>/cloud/log            output of the holder and slirp4netns
//! <state>/bake.lock            held during a bake
//! <state>/bases/<key>/         a distribution's root filesystem
//! <state>/images/<id>/         the agent layer on top of a base
//! <state>/scratch/             mount point of throw-away namespaces; always empty
//! <state>/hosts/<id>/          lock, running, host.json, console.log, upper, work, root
//! ```
//!
//! Locks are `flock(2)`: the kernel drops them when the process exits, so a lock is never stale.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::failure::Doing;
use crate::error::{Error, Result};

/// The state directory.
#[derive(Clone, Debug)]
pub(super) struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// Creates missing directories. Hosts run under other ids: these may enter the root (mode 711), but not list it.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let what = || format!("cannot create the state directory {}", root.display());
        DirBuilder::new().recursive(true).mode(0o711).create(root).doing(what)?;
        let state = Self { root: root.canonicalize().doing(what)? };
        for name in ["cloud", "bases", "images", "scratch/root", "scratch/tree", "hosts"] {
            DirBuilder::new().recursive(true).mode(0o711).create(state.root.join(name)).doing(what)?;
        }
        Ok(state)
    }

    /// A directory that [`StateDir::open`] has already prepared.
    pub(super) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn allocation_lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(super) fn bake_lock(&self) -> PathBuf {
        self.root.join("bake.lock")
    }

    pub(super) fn cloud(&self, name: &str) -> PathBuf {
        self.root.join("cloud").join(name)
    }

    pub(super) fn bases(&self) -> PathBuf {
        self.root.join("bases")
    }

    pub(super) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub(super) fn hosts(&self) -> PathBuf {
        self.root.join("hosts")
    }

    pub(super) fn host(&self, id: &str) -> HostDir {
        HostDir { root: self.hosts().join(id) }
    }

    /// The ids of all hosts, including incomplete ones.
    pub(super) fn host_ids(&self) -> Result<Vec<String>> {
        let what = || format!("cannot list {}", self.hosts().display());
        let mut ids = Vec::new();
        for entry in fs::read_dir(self.hosts()).doing(what)? {
            ids.extend(entry.doing(what)?.file_name().into_string());
        }
        Ok(ids)
    }
}

/// One host's directory.
#[derive(Clone, Debug)]
pub(super) struct HostDir {
    root: PathBuf,
}

impl HostDir {
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Creates the directory and its lock file.
    pub(super) fn create(&self) -> Result<()> {
        let what = || format!("cannot create {}", self.root.display());
        DirBuilder::new().recursive(true).mode(0o711).create(&self.root).doing(what)?;
        open_lock(&self.root.join("lock")).map(drop).doing(what)
    }

    pub(super) fn record(&self) -> PathBuf {
        self.root.join("host.json")
    }

    pub(super) fn console(&self) -> PathBuf {
        self.root.join("console.log")
    }

    /// Locked by the supervisor while the host is running. Contains the pids of supervisor, init and keeper; during a
    /// reboot only the supervisor's.
    pub(super) fn running(&self) -> PathBuf {
        self.root.join("running")
    }

    /// Waits for the lock that allows changes to this host; `None` if the host is gone.
    pub(super) fn lock(&self) -> Result<Option<File>> {
        let path = self.root.join("lock");
        loop {
            let file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                other => other.doing(|| format!("cannot open {}", path.display()))?,
            };
            file.lock().doing(|| format!("cannot lock {}", path.display()))?;
            // The previous holder may have removed the directory together with this file.
            let ours = file.metadata().doing(|| format!("cannot inspect {}", path.display()))?;
            match fs::metadata(&path) {
                Ok(found) if found.ino() == ours.ino() => return Ok(Some(file)),
                Ok(_) => {}
                Err(_) => return Ok(None),
            }
        }
    }

    /// The error for a missing host.
    pub(super) fn gone(&self) -> Error {
        Error::invalid(format!("there is no local host at {}", self.root.display()))
            .hint("it may just have been destroyed")
    }
}

/// Opens a lock file; creates it if it is missing.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Waits for the lock at `path`, which is held until the file is dropped.
pub(super) fn lock(path: &Path) -> Result<File> {
    let file = open_lock(path).doing(|| format!("cannot open {}", path.display()))?;
    file.lock().doing(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// Writes pids into a lock file that the caller holds.
pub(super) fn write_pids(mut file: &File, pids: &[u32]) -> io::Result<()> {
    let text: Vec<String> = pids.iter().map(u32::to_string).collect();
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.join(" ").as_bytes())
}

/// The pids in the lock file at `path`; `None` if no process holds the lock.
pub(super) fn held_by(path: &Path) -> Result<Option<Vec<u32>>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.doing(|| format!("cannot open {}", path.display()))?,
    };
    match file.try_lock_shared() {
        Ok(()) => return Ok(None),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => {
            return Err(Error::unreachable(format!("cannot test the lock {}: {error}", path.display())));
        }
    }
    let mut text = String::new();
    file.read_to_string(&mut text).doing(|| format!("cannot read {}", path.display()))?;
    Ok(Some(text.split_whitespace().filter_map(|word| word.parse().ok()).collect()))
}

/// Writes `content` to a new file beside `path`, then renames it into place.
pub(super) fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let what = || format!("cannot write {}", path.display());
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh).doing(what)?;
    file.write_all(content).and_then(|()| file.sync_all()).doing(what)?;
    fs::rename(&fresh, path).doing(what)
}
