//! The local cloud: one user and one network namespace for all hosts of a state directory.
//!
//! A holder process keeps the namespaces; slirp4netns, outside, provides their uplink. The supervisor of each running
//! host has a shared lock on `cloud/users`. When the holder gets that lock exclusively, it exits, and slirp4netns
//! with it. So the cloud ends with its last host, however that host ended.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    net::Ipv4Addr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::setsid,
};

use super::{network, uplink};
use crate::{
    error::{Error, Kind, Result},
    provider::local::{
        failure::Doing,
        namespace::{
            cgroup::Cgroups,
            channel::Channel,
            step::{Start, Step},
            tool::{IP, NFT},
            userns::{self, IdMap},
        },
        state::{StateDir, held_by, lock, open_lock, write_pids},
    },
};

/// Timeout for the holder to exit after the last host.
const ENDING: Duration = Duration::from_secs(5);

/// Joins the users of the cloud, and starts it if it is not running. The cloud stays up at least as long as the
/// returned file is open; the number is the holder's pid.
///
/// Starts processes of `ctl`, so the caller must have a single thread and be in the state directory.
pub(crate) fn ensure(state: &StateDir, ctl: &Path, map: &IdMap, cgroups: &Cgroups) -> Result<(File, u32)> {
    let _turn = lock(&state.cloud("lock"))?;
    cgroups.join_cloud()?;
    let path = state.cloud("users");
    let users = open_lock(&path).doing(|| format!("cannot open {}", path.display()))?;
    // Blocks while a holder is exiting; afterwards there is none.
    users.lock_shared().doing(|| format!("cannot lock {}", path.display()))?;
    match holder(state)? {
        Some(pid) => Ok((users, pid)),
        None => Ok((users, start(state, ctl, map)?)),
    }
}

/// Pid of the holder; `None` if the cloud is down.
fn holder(state: &StateDir) -> Result<Option<u32>> {
    Ok(held_by(&state.cloud("holder"))?.and_then(|pids| pids.first().copied()))
}

fn start(state: &StateDir, ctl: &Path, map: &IdMap) -> Result<u32> {
    let log_path = state.cloud("log");
    let log = File::create(&log_path).doing(|| format!("cannot create {}", log_path.display()))?;
    let machine = network::machine_addresses()?;
    let (exit_watch, exit_hold) = io::pipe().doing(|| "cannot create a pipe")?;
    let mut step =
        Start::new(ctl, Step::Hold, "cloud").log(log.try_clone().doing(|| "cannot duplicate the log")?);
    step.stdout = exit_hold.into();
    let (channel, mut holder) = step.spawn(state.root())?;
    let started = map
        .grant(&channel, holder.id())
        .and_then(|()| channel.send(&machine))
        .and_then(|()| channel.receive::<()>())
        .and_then(|()| uplink::start(holder.id(), map, exit_watch.into(), &log, &log_path))
        .and_then(|()| channel.send(()))
        .and_then(|()| channel.receive::<()>());
    match started {
        Ok(()) => Ok(holder.id()),
        Err(error) => {
            // Both fail only if the holder has already exited.
            drop(holder.kill());
            drop(holder.wait());
            Err(error.context("cannot start the local cloud"))
        }
    }
}

/// The holder's process: creates the namespaces, and waits until no host is left.
pub(crate) fn hold(channel: &Channel) -> Result<()> {
    let state = StateDir::at(std::env::current_dir().doing(|| "cannot find the state directory")?);
    let users = open_lock(&state.cloud("users")).doing(|| "cannot open cloud/users")?;
    let holder = lock(&state.cloud("holder"))?;
    write_pids(&holder, &[std::process::id()]).doing(|| "cannot write cloud/holder")?;
    setsid().doing(|| "cannot leave the terminal")?;
    userns::enter_new(channel)?;
    unshare(CloneFlags::CLONE_NEWNET).doing(|| "this machine refuses a network namespace")?;
    let machine: BTreeSet<Ipv4Addr> = channel.receive()?;
    IP.run(&["-batch", "-"], &network::bridge())?;
    NFT.run(&["-f", "-"], &network::firewall(&machine)).map_err(|error| match error.kind() {
        // nft is not installed.
        Kind::Invalid => error,
        _ => error.hint("the kernel needs nf_tables with NAT: modprobe -a nft_masq nft_chain_nat"),
    })?;
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").doing(|| "cannot switch on IP forwarding")?;
    channel.send(())?;
    let () = channel.receive()?;
    channel.send(())?;
    users.lock().doing(|| "cannot wait for the last host")
}

/// If no host is left, waits for the end of the cloud and removes its cgroups.
pub(crate) fn clear(state: &StateDir, cgroups: &Cgroups) -> Result<()> {
    let _turn = lock(&state.cloud("lock"))?;
    for id in state.host_ids()? {
        if held_by(&state.host(&id).running())?.is_some() {
            return Ok(());
        }
    }
    let deadline = Instant::now() + ENDING;
    while holder(state)?.is_some() {
        if Instant::now() > deadline {
            return Err(Error::unreachable("the local cloud is still running, although no host is left"));
        }
        thread::sleep(Duration::from_millis(2));
    }
    cgroups.remove_cloud()
}
