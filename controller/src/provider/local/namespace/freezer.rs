//! Freezes all processes of a cgroup; kernel documentation, admin-guide/cgroup-v2.rst, "cgroup.freeze".

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result},
    provider::local::failure::Doing,
};

/// Timeout for freezing a host: each process must first leave its current system call.
const FREEZING: Duration = Duration::from_secs(5);

/// The switch `cgroup.freeze`, kept open because write permission is checked when it is opened.
pub(crate) struct Freezer {
    switch: File,
    events: File,
}

impl Freezer {
    /// Opens the switch of the cgroup at `group`.
    pub(crate) fn open(group: &Path) -> Result<Self> {
        let what = || format!("cannot open the freezer of {}", group.display());
        let switch = File::options().write(true).open(group.join("cgroup.freeze")).doing(what)?;
        Ok(Self { switch, events: File::open(group.join("cgroup.events")).doing(what)? })
    }

    /// Freezes all processes until the result is dropped.
    pub(crate) fn freeze(self) -> Result<Frozen> {
        let what = || "cannot freeze the host";
        let frozen = Frozen(self.switch);
        frozen.0.write_all_at(b"1", 0).doing(what)?;
        let deadline = Instant::now() + FREEZING;
        while !is_frozen(&self.events).doing(what)? {
            if Instant::now() > deadline {
                return Err(Error::unreachable(what())
                    .hint("a process of the host is waiting for a device; stop the host and try again"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(frozen)
    }
}

fn is_frozen(events: &File) -> io::Result<bool> {
    let mut buffer = [0; 256];
    let count = events.read_at(&mut buffer, 0)?;
    Ok(buffer[..count].split(|byte| *byte == b'\n').any(|line| line == b"frozen 1"))
}

/// A frozen cgroup; dropping this thaws it.
pub(crate) struct Frozen(File);

impl Drop for Frozen {
    fn drop(&mut self) {
        // Cannot be refused: the file is open for writing, and the first write succeeded.
        drop(self.0.write_all_at(b"0", 0));
    }
}
