//! How a host ends: stopped in order, killed, or removed with all that it was. What the kernel keeps of one that ended by
//! itself is swept up.

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

/// How long an orderly shutdown may take.
const SHUTDOWN: Duration = Duration::from_secs(20);
/// How long the kernel may take to end a host that was killed.
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
        // What systemd(1) calls SIGRTMIN+3: halt in order.
        KILL.run(&["-s", "RTMIN+3", &init.to_string()], "")?;
        if wait_until_ended(host, SHUTDOWN)? { Ok(()) } else { self.end(host) }
    }

    /// Kills a host: its supervisor's end is its init's, and so everything's.
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
                return Err(Error::unreachable("the host does not end though it was killed"));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Removes what the kernel keeps of a host that has ended, and the cloud if it was the last.
    fn forget(&self, id: &str) -> Result<()> {
        let cgroups = Cgroups::find(&self.hash)?;
        cgroups.remove_host(id)?;
        cloud::clear(&self.state, &cgroups)
    }

    /// Removes the cgroups of a host that ended by itself: neither it nor its supervisor could.
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

    /// Ends a host and removes all that it was, however little that is; the caller holds its lock.
    pub(super) fn remove(&self, id: &str) -> Result<()> {
        let host = self.state.host(id);
        self.end(&host)?;
        self.forget(id)?;
        // Should this be interrupted, what is left can be destroyed but not started.
        if let Some(mut record) = Record::read(&host)?.filter(|record| record.booted) {
            record.booted = false;
            record.write(&host)?;
        }
        self.clear_disk(&host)?;
        fs::remove_dir_all(host.root()).doing(|| format!("cannot remove {}", host.root().display()))
    }

    /// Removes a host's disk, or what there is of it.
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
