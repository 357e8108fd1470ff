//! A host's keeper boots the host once, inside the cloud, and copies its console until the host has ended.

use std::{
    fs::{DirBuilder, File},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::DirBuilderExt, process::ExitStatusExt},
    },
    path::Path,
    process::Child,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::{prctl, signal::Signal},
    unistd::{Pid, chown},
};
use rustix::process::{PidfdFlags, pidfd_open};

use super::{
    console, init,
    supervise::{Boot, Ended},
};
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
        state::{HostDir, StateDir},
    },
};

/// The keeper's process. Its working directory is the state directory.
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
    let log = console::open_log(&host)?;
    let nodes = Nodes::make(&map)?;

    userns::join(holder)?;
    // The host must not outlive its supervisor. Set here, because a change of ids clears this setting (prctl(2)).
    prctl::set_pdeathsig(Signal::SIGKILL).doing(|| "cannot tie the host to its supervisor")?;
    let (mut init, watch, terminal) = start_init(boot, &state, doors, memory_in_v1, nodes)?;
    channel.send(init.id())?;
    console::keep(&watch, terminal, log)?;
    let status = init.wait().doing(|| "cannot get the exit status of the host's init")?;
    // The kernel reports a reboot(2) in a process namespace as the exit signal of its first process.
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

/// Starts init as the first process of a new process namespace. Returns the process, a pidfd to watch it, and both
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
        channel.receive_files()?.try_into().map_err(|_| Error::unreachable("init sent no console"))?;
    channel.replaced()?;
    Ok((child, watch, terminal))
}
