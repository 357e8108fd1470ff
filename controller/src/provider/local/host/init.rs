//! The first process of a host's process namespace: sets up the host, then becomes its systemd.
//!
//! For what systemd expects, see systemd.io/CONTAINER_INTERFACE.

use std::{
    fs::File,
    io::{self, Write},
    net::Ipv4Addr,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sched::{CloneFlags, setns, unshare},
    sys::{prctl, signal::Signal},
    unistd::{sethostname, setsid},
};
use serde::{Deserialize, Serialize};

use super::seeds::{self, SeedFile};
use crate::{
    error::{Error, Result},
    provider::local::{
        cloud::network,
        failure::Doing,
        namespace::{
            channel::Channel,
            devices::{self, Nodes},
            mounts,
            tool::IP,
        },
    },
};

/// Path on Debian and Ubuntu.
const SYSTEMD: &str = "/lib/systemd/systemd";

/// Parameters of a boot.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) id: String,
    pub(super) hostname: String,
    pub(super) address: Ipv4Addr,
    pub(super) layers: Vec<PathBuf>,
    pub(super) forget: Vec<PathBuf>,
    pub(super) seeds: Vec<SeedFile>,
    /// The host's memory is charged to a version 1 control group.
    pub(super) memory_in_v1: bool,
    /// Interface name of the host's port on the bridge.
    pub(super) port: String,
}

/// Becomes the host's init. Returns only on failure; the caller then reports the error and exits, which ends the host.
pub(crate) fn init(channel: &Channel) -> Result<()> {
    let request: Request = channel.receive()?;
    // The host must not outlive its supervisor.
    prctl::set_pdeathsig(Signal::SIGKILL).doing(|| "cannot tie the host to its supervisor")?;
    for door in channel.receive_files()? {
        File::from(door).write_all(b"0").doing(|| "cannot join the host's cgroup")?;
    }
    let nodes = Nodes::receive(channel)?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWCGROUP,
    )
    .doing(|| "this machine refuses namespaces")?;
    sethostname(&request.hostname).doing(|| "cannot set the host's name")?;
    connect(request.address, &request.port)?;

    mounts::private_mounts()?;
    let host = PathBuf::from("hosts").join(&request.id);
    let root = host.join("root");
    mounts::mount_overlay(&request.layers, &host.join("upper"), &host.join("work"), &root)?;
    mounts::mount_kernel(&root)?;
    mounts::mount_cgroups(&root)?;
    if request.memory_in_v1 {
        mounts::mount_memory_counters(&root)?;
    }
    let (master, slave) = devices::lay_out(&root, nodes)?;
    mounts::restrict_proc(&root)?;
    mounts::enter(&root)?;
    // From here on, a symbolic link on a copied disk cannot lead out of the host.
    for path in &request.forget {
        seeds::forget(&Path::new("/").join(path))?;
    }
    for seed in &request.seeds {
        seeds::write_seed(Path::new("/"), seed)?;
    }
    channel.send(())?;
    channel.send_files(&[master.as_fd(), slave.as_fd()])?;
    drop(master);
    Err(Error::invalid(format!("cannot start {SYSTEMD} of the image: {}", become_systemd(&slave)?)))
}

/// Gives this process its own network namespace, connected to the bridge of the cloud's.
fn connect(address: Ipv4Addr, port: &str) -> Result<()> {
    let here = || File::open("/proc/self/ns/net").doing(|| "cannot open the network namespace");
    let cloud = here()?;
    unshare(CloneFlags::CLONE_NEWNET).doing(|| "this machine refuses a network namespace")?;
    let host = here()?;
    fcntl(&cloud, FcntlArg::F_SETFD(FdFlag::empty())).doing(|| "cannot pass on a namespace")?;
    let cloud_path = format!("/proc/self/fd/{}", cloud.as_raw_fd());
    IP.run(&["-batch", "-"], &network::host_side(address, port, &cloud_path))?;
    setns(&cloud, CloneFlags::CLONE_NEWNET).doing(|| "cannot return to the cloud's network")?;
    IP.run(&["-batch", "-"], &network::cloud_side(port))?;
    setns(&host, CloneFlags::CLONE_NEWNET).doing(|| "cannot enter the host's network")
}

/// Replaces this process by systemd; returns the error if that fails.
fn become_systemd(console: &OwnedFd) -> Result<io::Error> {
    setsid().doing(|| "cannot lead a session")?;
    let copy = || console.try_clone().doing(|| "cannot duplicate the console");
    Ok(Command::new(SYSTEMD)
        .env_clear()
        .env("container", "magpie")
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("TERM", "dumb")
        .stdin(copy()?)
        .stdout(copy()?)
        .stderr(copy()?)
        .exec())
}
