//! Copies a host's console to a log file while its init runs.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
};

use rustix::event::{PollFd, PollFlags, poll};

use crate::{
    error::Result,
    provider::local::{failure::Doing, state::HostDir},
};

/// Size in bytes at which the log is truncated: a host in a restart loop must not fill the disk.
const CONSOLE_LIMIT: u64 = 4 << 20;

/// Opens the log for appending.
pub(super) fn open_log(host: &HostDir) -> Result<File> {
    let path = host.console();
    File::options().create(true).append(true).open(&path).doing(|| format!("cannot open {}", path.display()))
}

/// Copies the console to its log until init exits. The slave end stays open: whenever no process in the host has the
/// console open, the master would otherwise report endless hang-ups.
pub(super) fn keep(init: &OwnedFd, [master, _slave]: [OwnedFd; 2], mut log: File) -> Result<()> {
    let mut master = File::from(master);
    let mut buffer = [0; 4096];
    loop {
        let mut watched = [PollFd::new(init, PollFlags::IN), PollFd::new(&master, PollFlags::IN)];
        match poll(&mut watched, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.doing(|| "cannot wait for the host")?,
        };
        let (ended, spoke) = (!watched[0].revents().is_empty(), !watched[1].revents().is_empty());
        if spoke {
            let count = master.read(&mut buffer).doing(|| "cannot read the console")?;
            // Ignored: a full disk must not stop the host.
            drop(append(&mut log, &buffer[..count]));
        } else if ended {
            return Ok(());
        }
    }
}

fn append(log: &mut File, text: &[u8]) -> std::io::Result<()> {
    if log.metadata()?.len() > CONSOLE_LIMIT {
        log.set_len(0)?;
    }
    log.write_all(text)
}
