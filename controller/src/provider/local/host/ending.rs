//! Stopping, killing and destroying hosts, and removing the cgroups of hosts that ended on their own.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    error::{Error, Result},
    provider::local::{
        cloud,
        failure::Doing,
        inner::Inner,
        namespace::{cgroup::Cgroups, tool::KILL, tree::remove_tree, userns::IdMap},
        record::Record,
        state::{HostDir, held_by},
    },
};

/// Timeout of a clean shutdown.
const SHUTDOWN: Duration = Duration::from_secs(20);
/// Timeout for a killed host to end.
const KILLING: Duration = Duration::from_secs(10);

impl Inner {
    pub(crate) fn stop(&self, id: &str) -> Result<()> {
        let host = self.state.host(id);
        let _turn = host.lock()?.ok_or_else(|| host.gone())?;
        self.shut_down(&host)?;
        self.forget(id)
    }

    fn shut_down(&self, host: &HostDir) -> Result<()> {
        let Some([_, init]) =
            held_by(&host.running())?.as_deref().and_then(|pids| pids.first_chunk()).copied()
        else {
            return self.end(host);
        };
        // SIGRTMIN+3 makes systemd halt cleanly (systemd(1)).
        KILL.run(&["-s", "RTMIN+3", &init.to_string()], "")?;
        if wait_until_ended(host, SHUTDOWN)? { Ok(()) } else { self.end(host) }
    }

    /// Kills a host by killing its supervisor; the kernel then kills its init and all its processes.
    fn end(&self, host: &HostDir) -> Result<()> {
        let deadline = Instant::now() + KILLING;
        while let Some(pids) = held_by(&host.running())? {
            if let Some(supervisor) = pids.first() {
                match kill(Pid::from_raw(supervisor.cast_signed()), Signal::SIGKILL) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => {
                        return Err(Error::unreachable(format!("cannot kill process {supervisor}: {errno}")));
                    }
                }
            }
            if Instant::now() > deadline {
                return Err(Error::unreachable("the host is still running after SIGKILL"));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Removes the cgroups of a host that has ended, and the cloud if that was the last host.
    fn forget(&self, id: &str) -> Result<()> {
        let cgroups = Cgroups::find(&self.hash)?;
        cgroups.remove_host(id)?;
        cloud::clear(&self.state, &cgroups)
    }

    /// Removes the cgroups of a host that ended on its own, which neither the host nor its supervisor could do.
    pub(super) fn sweep(&self, id: &str) -> Result<()> {
        let host = self.state.host(id);
        let ended = || held_by(&host.running()).map(|pids| pids.is_none());
        if !ended()? || !Cgroups::find(&self.hash)?.knows_host(id) {
            return Ok(());
        }
        match host.lock()? {
            Some(_turn) if ended()? => self.forget(id),
            _ => Ok(()),
        }
    }

    pub(crate) fn destroy(&self, id: &str) -> Result<()> {
        let host = self.state.host(id);
        match host.lock()? {
            Some(_turn) => self.remove(id),
            None if host.root().exists() => self.remove(id),
            None => Ok(()),
        }
    }

    /// Ends a host, complete or not, and removes everything of it. The caller holds its lock.
    pub(super) fn remove(&self, id: &str) -> Result<()> {
        let host = self.state.host(id);
        self.end(&host)?;
        self.forget(id)?;
        // If this is interrupted, the remains can be destroyed but not started.
        if let Some(mut record) = Record::read(&host)?.filter(|record| record.booted) {
            record.booted = false;
            record.write(&host)?;
        }
        self.clear_disk(&host)?;
        fs::remove_dir_all(host.root()).doing(|| format!("cannot remove {}", host.root().display()))
    }

    /// Removes a host's disk, even if it is incomplete.
    pub(super) fn clear_disk(&self, host: &HostDir) -> Result<()> {
        let map = IdMap::of_this_user()?;
        ["upper", "work"]
            .into_iter()
            .try_for_each(|name| remove_tree(&self.ctl, &map, &host.root().join(name)))
    }
}

fn wait_until_ended(host: &HostDir, patience: Duration) -> Result<bool> {
    let deadline = Instant::now() + patience;
    while held_by(&host.running())?.is_some() {
        if Instant::now() > deadline {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(true)
}
