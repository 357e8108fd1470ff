//! The switch of a cgroup that stops all processes in it; kernel documentation, admin-guide/cgroup-v2.rst, "cgroup.freeze".

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

/// How long the kernel may take to freeze a host: until its last process has left the system call it is in.
const FREEZING: Duration = Duration::from_secs(5);

/// The switch, held open, because who may write to it is decided when it is opened.
pub(crate) struct Freezer {
    switch: File,
    events: File,
}

impl Freezer {
    /// That of the cgroup at `group`.
    pub(crate) fn open(group: &Path) -> Result<Self> {
        let what = || format!("cannot open the freezer of {}", group.display());
        let switch = File::options().write(true).open(group.join("cgroup.freeze")).doing(what)?;
        Ok(Self { switch, events: File::open(group.join("cgroup.events")).doing(what)? })
    }

    /// Stops all processes; they go on when what is returned is dropped.
    pub(crate) fn freeze(self) -> Result<Frozen> {
        let what = || "cannot freeze the host";
        let frozen = Frozen(self.switch);
        frozen.0.write_all_at(b"1", 0).doing(what)?;
        let deadline = Instant::now() + FREEZING;
        while !is_frozen(&self.events).doing(what)? {
            if Instant::now() > deadline {
                return Err(Error::unreachable(what())
                    .hint("one of its processes waits for a device; stop the host and try again"));
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

/// A frozen cgroup.
pub(crate) struct Frozen(File);

impl Drop for Frozen {
    fn drop(&mut self) {
        // It was open for writing, and has been written to: this cannot be refused.
        drop(self.0.write_all_at(b"0", 0));
    }
}
