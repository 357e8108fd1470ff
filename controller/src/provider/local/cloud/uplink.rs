//! The uplink of a cloud: slirp4netns, a process outside that carries packets between the cloud's network and ordinary
//! sockets.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    process::Stdio,
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::network;
use crate::{
    error::{Error, Result},
    provider::local::{
        failure::Doing,
        namespace::{tool::SLIRP, userns::IdMap},
    },
};

/// Starts slirp4netns, which exits when `exit_watch` hangs up, that is, when the holder exits.
pub(super) fn start(
    holder: u32,
    map: &IdMap,
    exit_watch: OwnedFd,
    log: &File,
    log_path: &Path,
) -> Result<()> {
    let (mut ready, announce) = io::pipe().doing(|| "cannot create a pipe")?;
    let announce = OwnedFd::from(announce);
    fcntl(&announce, FcntlArg::F_SETFD(FdFlag::empty())).doing(|| "cannot pass on a pipe")?;
    let log_copy = || log.try_clone().map(Stdio::from).doing(|| "cannot duplicate the log");
    let mut command = SLIRP.command();
    command
        .args(["--configure", "--disable-host-loopback", "--exit-fd=0", "--netns-type=path"])
        .arg(format!("--mtu={}", network::MTU))
        .arg(format!("--ready-fd={}", announce.as_raw_fd()));
    if *map != IdMap::Fixed {
        command.arg(format!("--userns-path=/proc/{holder}/ns/user"));
    }
    let mut slirp = command
        .arg(format!("/proc/{holder}/ns/net"))
        .arg("tap0")
        .stdin(exit_watch)
        .stdout(log_copy()?)
        .stderr(log_copy()?)
        .spawn()
        .map_err(|error| SLIRP.not_started(&error))?;
    drop(announce);
    if ready.read(&mut [0]).doing(|| "cannot read from slirp4netns")? == 0 {
        // Both fail only if slirp4netns has already exited.
        drop(slirp.kill());
        drop(slirp.wait());
        return Err(refused(log_path));
    }
    Ok(())
}

fn refused(log: &Path) -> Error {
    let said = fs::read_to_string(log).unwrap_or_default();
    let last = said.lines().last().unwrap_or("no output").to_owned();
    let error = Error::invalid(format!("slirp4netns failed to start: {last}"));
    match File::options().read(true).write(true).open("/dev/net/tun") {
        Err(cause) => {
            error.hint(format!("/dev/net/tun cannot be opened ({cause}): modprobe tun, or run ctl as root"))
        }
        Ok(_) => error.hint(format!("its log is {}", log.display())),
    }
}
