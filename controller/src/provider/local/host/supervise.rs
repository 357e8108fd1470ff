//! A host runs as long as its supervisor. For each boot the supervisor starts a keeper, which boots the host and
//! copies its console. If the supervisor exits, the kernel kills the keeper, the host's init, and so the whole host.
//! When the host shuts down, supervisor and keeper exit; when it reboots, only the keeper does.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use nix::unistd::setsid;
use serde::{Deserialize, Serialize};

use super::seeds::SeedFile;
use crate::{
    error::Result,
    provider::local::{
        cloud,
        failure::Doing,
        namespace::{
            cgroup::Cgroups,
            channel::Channel,
            step::{Start, Step, THIS_PROGRAM},
            userns::IdMap,
        },
        record::Record,
        state::{StateDir, lock, write_pids},
    },
};

/// Parameters of the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Boot {
    pub(super) record: Record,
    /// Hex digits in the names of this state directory's cgroups.
    pub(super) hash: String,
    /// Read-only layers, top first, relative to the state directory.
    pub(super) layers: Vec<PathBuf>,
    /// Files and directories to remove before the first boot, relative to the host's root.
    pub(super) forget: Vec<PathBuf>,
    /// Files to write before the first boot.
    pub(super) seeds: Vec<SeedFile>,
}

/// The supervisor's process: boots the host, and boots it again after each reboot. Its working directory is the state
/// directory.
pub(crate) fn supervise(channel: &Channel) -> Result<()> {
    let mut boot: Boot = channel.receive()?;
    let state = StateDir::at(std::env::current_dir().doing(|| "cannot find the state directory")?);
    let running = lock(&state.host(&boot.record.id).running())?;
    setsid().doing(|| "cannot leave the terminal")?;
    let (map, cgroups) = (IdMap::of_this_user()?, Cgroups::find(&boot.hash)?);
    // Held over all boots, so that the cloud stays up between two of them.
    let (_users, _) = cloud::ensure(&state, Path::new(THIS_PROGRAM), &map, &cgroups)?;
    let mut launcher = Some(channel);
    loop {
        // A launcher waits for the first boot only.
        let how = boot_once(&boot, &state, &running, launcher.take())?;
        if how == Ended::ForGood {
            return Ok(());
        }
        // Until the next boot, the host has no init and no keeper.
        write_pids(&running, &[std::process::id()]).doing(|| "cannot write the host's pids")?;
        cgroups.remove_host(&boot.record.id)?;
        // Only the first boot prepares the disk.
        boot.forget.clear();
        boot.seeds.clear();
    }
}

/// Why a running host ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ended {
    /// Shutdown or kill.
    ForGood,
    /// Reboot.
    ToReboot,
}

/// Boots the host in a separate process, because a process cannot leave a user namespace; returns when the host has
/// ended.
fn boot_once(boot: &Boot, state: &StateDir, running: &File, launcher: Option<&Channel>) -> Result<Ended> {
    let (keeper, mut child) =
        Start::new(Path::new(THIS_PROGRAM), Step::Keep, &boot.record.name).spawn(state.root())?;
    let booted = keeper.send(boot).and_then(|()| keeper.receive::<u32>()).and_then(|init| {
        // The keeper comes last (see `Inner::keeper`): it is the process in the cloud.
        write_pids(running, &[std::process::id(), init, child.id()])
            .doing(|| "cannot write the host's pids")?;
        launcher.map_or(Ok(()), |launcher| launcher.send(()))?;
        keeper.receive()
    });
    child.wait().doing(|| "cannot wait for the host")?;
    booted
}
