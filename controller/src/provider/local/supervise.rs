//! A host's supervisor: boots it, keeps its console, and is its life. When the supervisor goes, the kernel
//! kills the host's init and with it all of the host; when the host ends, the supervisor does.

use std::{
    fs::{DirBuilder, File},
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::{Pid, chown, setsid},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{PidfdFlags, pidfd_open},
};
use serde::{Deserialize, Serialize};

use super::{
    cgroup::Cgroups,
    channel::Channel,
    cloud,
    devices::Nodes,
    failure::Doing,
    init::{self, SeedFile},
    record::Record,
    reexec::{Start, Step, THIS_PROGRAM},
    state::{HostDir, StateDir, lock, write_pids},
    userns::{self, IdMap},
};
use crate::error::{Error, Result};

/// What the supervisor has to know.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Boot {
    pub(super) record: Record,
    /// Names this state directory's cgroups.
    pub(super) hash: String,
    /// Read-only layers, the uppermost first, relative to the state directory.
    pub(super) layers: Vec<PathBuf>,
    /// Files and directories to remove before the first boot, relative to the host's root.
    pub(super) forget: Vec<PathBuf>,
    /// Files to write before the first boot.
    pub(super) seeds: Vec<SeedFile>,
}

/// Beyond this size the console log starts anew: a host in a restart loop must not fill the disk.
const CONSOLE_LIMIT: u64 = 4 << 20;

/// The supervisor's whole life. Its working directory is the state directory.
pub(super) fn supervise(channel: &Channel) -> Result<()> {
    let boot: Boot = channel.receive()?;
    let state = StateDir::at(std::env::current_dir().doing(|| "cannot find the state directory")?);
    let host = state.host(&boot.record.id);
    let running = lock(&host.running())?;
    setsid().doing(|| "cannot leave the terminal")?;

    let map = IdMap::of_this_user()?;
    let cgroups = Cgroups::find(&boot.hash)?;
    let (_users, holder) = cloud::ensure(&state, Path::new(THIS_PROGRAM), &map, &cgroups)?;
    let doors = cgroups.create_host(&boot.record.id, boot.record.memory, &map)?;
    make_directories(&host, &map)?;
    let console = open_console(&host)?;
    let nodes = Nodes::make(&map)?;

    userns::join(holder)?;
    let (init, watch, terminal) = start_init(boot, &state, doors, nodes)?;
    write_pids(&running, &[std::process::id(), init]).doing(|| "cannot write the host's pids")?;
    channel.send(())?;
    keep(&watch, terminal, console)
}

fn make_directories(host: &HostDir, map: &IdMap) -> Result<()> {
    let (uid, gid) = map.root();
    for name in ["upper", "work", "root"] {
        let path = host.root().join(name);
        let what = || format!("cannot create {}", path.display());
        DirBuilder::new().recursive(true).mode(0o755).create(&path).doing(what)?;
        chown(&path, Some(uid), Some(gid)).doing(what)?;
    }
    Ok(())
}

fn open_console(host: &HostDir) -> Result<File> {
    let path = host.console();
    File::options().create(true).append(true).open(&path).doing(|| format!("cannot open {}", path.display()))
}

/// Starts init as the first process of its own process namespace; returns its pid, a handle that tells when
/// it ends, and both ends of its terminal.
fn start_init(
    boot: Boot,
    state: &StateDir,
    doors: Vec<File>,
    nodes: Nodes,
) -> Result<(u32, OwnedFd, [OwnedFd; 2])> {
    let request = init::Request {
        id: boot.record.id,
        hostname: boot.record.name.clone(),
        address: boot.record.address,
        layers: boot.layers,
        forget: boot.forget,
        seeds: boot.seeds,
        port: format!("v{}-{}", boot.record.address.octets()[3], std::process::id()),
    };
    unshare(CloneFlags::CLONE_NEWPID).doing(|| "this machine refuses a process namespace")?;
    let (channel, child) =
        Start::new(Path::new(THIS_PROGRAM), Step::Init, &boot.record.name).spawn(state.root())?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let raw =
        rustix::process::Pid::from_raw(pid.as_raw()).ok_or_else(|| Error::unreachable("init has no pid"))?;
    let watch = pidfd_open(raw, PidfdFlags::empty()).doing(|| "cannot watch init")?;
    channel.send(&request)?;
    let doors: Vec<_> = doors.iter().map(AsFd::as_fd).collect();
    channel.send_files(&doors)?;
    nodes.send(&channel)?;
    let () = channel.receive()?;
    let terminal =
        channel.receive_files()?.try_into().map_err(|_| Error::unreachable("init handed over no console"))?;
    channel.replaced()?;
    Ok((child.id(), watch, terminal))
}

/// Copies the console to its log until init ends. The slave end stays open: else each time that nobody in
/// the host has it open, the master would report a hang-up without end.
fn keep(init: &OwnedFd, [master, _slave]: [OwnedFd; 2], mut log: File) -> Result<()> {
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
            // A full disk must not end the host.
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
