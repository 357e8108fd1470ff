//! A host's supervisor is its life; for each boot it has a keeper, which boots the host and keeps its console. When
//! the supervisor goes, the kernel kills the keeper, with it the host's init, and so all of the host. When the host shuts
//! down, both end; when it reboots, only the keeper does.

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
pub(super) enum Ended {
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
