//! A host's supervisor is its life; for each boot it has a keeper, which boots the host and keeps its console. When
//! the supervisor goes, the kernel kills the keeper, with it the host's init, and so all of the host. When the host shuts
//! down, both end; when it reboots, only the keeper does.

use std::{
    fs::{DirBuilder, File},
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::DirBuilderExt, process::ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::Child,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::{prctl, signal::Signal},
    unistd::{Pid, chown, setsid},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{PidfdFlags, pidfd_open},
};
use serde::{Deserialize, Serialize};

use super::{init, seeds::SeedFile};
use crate::{
    error::{Error, Result},
    provider::local::{
        cloud,
        failure::Doing,
        namespace::{
            cgroup::Cgroups,
            channel::Channel,
            devices::Nodes,
            step::{Start, Step, THIS_PROGRAM},
            userns::{self, IdMap},
        },
        record::Record,
        state::{HostDir, StateDir, lock, write_pids},
    },
};

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

/// The supervisor's whole life: it boots the host, and boots it again each time it reboots. Its working directory is
/// the state directory.
pub(crate) fn supervise(channel: &Channel) -> Result<()> {
    let mut boot: Boot = channel.receive()?;
    let state = StateDir::at(std::env::current_dir().doing(|| "cannot find the state directory")?);
    let running = lock(&state.host(&boot.record.id).running())?;
    setsid().doing(|| "cannot leave the terminal")?;
    let (map, cgroups) = (IdMap::of_this_user()?, Cgroups::find(&boot.hash)?);
    // Held over all boots, so that the cloud does not go away between two of them.
    let (_users, _) = cloud::ensure(&state, Path::new(THIS_PROGRAM), &map, &cgroups)?;
    let mut launcher = Some(channel);
    loop {
        let how = boot_once(&boot, &state, &running, launcher.take())?;
        if how == Ended::ForGood {
            return Ok(());
        }
        // From here to the next boot there is no process of the host's to speak of.
        write_pids(&running, &[std::process::id()]).doing(|| "cannot write the host's pids")?;
        cgroups.remove_host(&boot.record.id)?;
        boot.forget.clear();
        boot.seeds.clear();
    }
}

/// How a host that was up has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Ended {
    /// It shut down, or was killed.
    ForGood,
    /// It wants to boot again.
    ToReboot,
}

/// Lets a process of its own boot the host, since nobody gets out of a user namespace again; returns when the host has
/// ended.
fn boot_once(boot: &Boot, state: &StateDir, running: &File, launcher: Option<&Channel>) -> Result<Ended> {
    let (keeper, mut child) =
        Start::new(Path::new(THIS_PROGRAM), Step::Keep, &boot.record.name).spawn(state.root())?;
    let booted = keeper.send(boot).and_then(|()| keeper.receive::<u32>()).and_then(|init| {
        // The keeper comes last: it is the one that is in the cloud.
        write_pids(running, &[std::process::id(), init, child.id()])
            .doing(|| "cannot write the host's pids")?;
        launcher.map_or(Ok(()), |launcher| launcher.send(()))?;
        keeper.receive()
    });
    child.wait().doing(|| "cannot wait for the host")?;
    booted
}

/// One boot of a host, and its console until it ends. The working directory is the state directory.
pub(crate) fn keep_host(channel: &Channel) -> Result<()> {
    let boot: Boot = channel.receive()?;
    let state = StateDir::at(std::env::current_dir().doing(|| "cannot find the state directory")?);
    let host = state.host(&boot.record.id);
    let map = IdMap::of_this_user()?;
    let cgroups = Cgroups::find(&boot.hash)?;
    let (_users, holder) = cloud::ensure(&state, Path::new(THIS_PROGRAM), &map, &cgroups)?;
    let doors = cgroups.create_host(&boot.record.id, boot.record.memory, &map)?;
    let memory_in_v1 = cgroups.charges_in_v1(&boot.record.id);
    make_directories(&host, &map)?;
    let console = open_console(&host)?;
    let nodes = Nodes::make(&map)?;

    userns::join(holder)?;
    // No supervisor, no host. Only now: a change of ids takes this back (prctl(2)).
    prctl::set_pdeathsig(Signal::SIGKILL).doing(|| "cannot tie the host to its supervisor")?;
    let (mut init, watch, terminal) = start_init(boot, &state, doors, memory_in_v1, nodes)?;
    channel.send(init.id())?;
    keep(&watch, terminal, console)?;
    let status = init.wait().doing(|| "cannot hear how the host ended")?;
    // The kernel's way of telling what the first process of a process namespace asked of reboot(2).
    let reboots = status.signal() == Some(Signal::SIGHUP as i32);
    channel.send(if reboots { Ended::ToReboot } else { Ended::ForGood })
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

/// Starts init as the first process of its own process namespace; returns it, a handle that tells when it ends, and both
/// ends of its terminal.
fn start_init(
    boot: Boot,
    state: &StateDir,
    doors: Vec<File>,
    memory_in_v1: bool,
    nodes: Nodes,
) -> Result<(Child, OwnedFd, [OwnedFd; 2])> {
    let request = init::Request {
        id: boot.record.id,
        hostname: boot.record.name.clone(),
        address: boot.record.address,
        layers: boot.layers,
        forget: boot.forget,
        seeds: boot.seeds,
        memory_in_v1,
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
    Ok((child, watch, terminal))
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
