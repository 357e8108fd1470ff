//! What happens to a host, in order: launch, start, stop, destroy. Each step can be repeated, and each begins
//! by taking the host's lock, so that two controllers take turns.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    seeds::{self, SeedFile},
    supervise::Boot,
};
use crate::{
    error::{Error, Result},
    provider::{
        Host, Launch,
        local::{
            Inner,
            cloud::{self, network},
            failure::Doing,
            image::layers,
            namespace::{
                cgroup::Cgroups,
                step::{Start, Step},
                tool::KILL,
                tree::remove_tree,
                userns::IdMap,
            },
            record::Record,
            state::{HostDir, held_by, lock},
        },
        name,
    },
};

/// How long an orderly shutdown may take.
const SHUTDOWN: Duration = Duration::from_secs(20);
/// How long the kernel may take to end a host that was killed.
const KILLING: Duration = Duration::from_secs(10);

impl Inner {
    /// Launches a host, or returns the one that this transaction launched before.
    pub(crate) fn launch(&self, launch: &Launch) -> Result<Host> {
        self.create(launch, Vec::new(), |_| Ok(()))
    }

    /// Lets `fill` lay out the disk of a new host, and boots it without the files of `forget`. A no-op if this
    /// transaction has done so before.
    pub(crate) fn create(
        &self,
        launch: &Launch,
        forget: Vec<PathBuf>,
        fill: impl FnOnce(&HostDir) -> Result<()>,
    ) -> Result<Host> {
        check_role(&launch.role)?;
        let host = self.state.host(&host_id(&launch.tid));
        let (_turn, mut record) = self.admit(launch, &host)?;
        if !record.booted {
            let layers = layers::layers(&self.state, &record.image)?;
            let first = First { forget, seeds: seeds::seeds(&record, launch)? };
            fill(&host).and_then(|()| self.boot(&record, layers, first)).map_err(|error| {
                let error = error.context(format!("cannot launch {}", record.name));
                match self.remove(&record.id) {
                    Ok(()) => error,
                    Err(left) => error.hint(format!("what there was of it could not be removed: {left}")),
                }
            })?;
            record.booted = true;
            record.write(&host)?;
        }
        record.into_host(&host)
    }

    /// Takes the host's lock, and writes its record if this is its first launch.
    fn admit(&self, launch: &Launch, host: &HostDir) -> Result<(File, Record)> {
        let allocation = lock(&self.state.allocation_lock())?;
        // From here to the record, which tells that this image is in use, nobody else may remove it.
        layers::layers(&self.state, &launch.image)?;
        host.create()?;
        if Record::read(host)?.is_none() {
            let turn = host.lock()?.ok_or_else(|| gone(host))?;
            let record = self.allocate(launch)?;
            record.write(host)?;
            return Ok((turn, record));
        }
        // It may be booting at the other launcher's hands; others need not wait for that.
        drop(allocation);
        let turn = host.lock()?.ok_or_else(|| gone(host))?;
        let record = Record::read(host)?.ok_or_else(|| gone(host))?;
        Ok((turn, record))
    }

    /// A record with the lowest free name and address; the caller holds the lock on these.
    fn allocate(&self, launch: &Launch) -> Result<Record> {
        let others = Record::all(&self.state)?;
        let taken: BTreeSet<_> = others.iter().map(|other| other.address).collect();
        let names =
            others.iter().filter(|other| other.fleet == launch.fleet).map(|other| other.name.as_str());
        Ok(Record::new(
            launch,
            host_id(&launch.tid),
            name::free(&launch.role, names),
            network::free_address(&taken)?,
            Timestamp::now().as_second(),
        ))
    }

    /// All hosts of a fleet, ordered by role and number.
    pub(crate) fn hosts(&self, fleet: &str) -> Result<Vec<Host>> {
        let mut records = Record::all(&self.state)?;
        records.retain(|record| record.fleet == fleet);
        records.sort_by_cached_key(|record| {
            let number: u32 =
                record.name.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0);
            (record.role.clone(), number)
        });
        for record in &records {
            // Whoever acts on the host next tries again, and says so.
            drop(self.sweep(&record.id));
        }
        records
            .into_iter()
            .map(|record| {
                let host = self.state.host(&record.id);
                record.into_host(&host)
            })
            .collect()
    }

    /// Removes the cgroups of a host that ended by itself: neither it nor its supervisor could.
    fn sweep(&self, id: &str) -> Result<()> {
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

    pub(crate) fn mark(&self, marked: &Host) -> Result<()> {
        let host = self.state.host(&marked.id);
        let _turn = host.lock()?.ok_or_else(|| gone(&host))?;
        let mut record = Record::read(&host)?.ok_or_else(|| gone(&host))?;
        record.name.clone_from(&marked.name);
        record.usage.clone_from(&marked.usage);
        record.write(&host)
    }

    pub(crate) fn start(&self, id: &str) -> Result<Host> {
        let host = self.state.host(id);
        let _turn = host.lock()?.ok_or_else(|| gone(&host))?;
        let record = Record::read(&host)?.ok_or_else(|| gone(&host))?;
        if held_by(&host.running())?.is_some() {
            return record.into_host(&host);
        }
        if !record.booted {
            return Err(Error::unreachable(format!("the launch of {} was interrupted", record.name))
                .hint("launch it again, or destroy it"));
        }
        let layers = layers::layers(&self.state, &record.image)?;
        self.boot(&record, layers, First::default())
            .map_err(|error| error.context(format!("cannot start {}", record.name)))?;
        record.into_host(&host)
    }

    /// Boots a host and returns when its init runs and its network is up. A no-op if it runs.
    fn boot(&self, record: &Record, layers: Vec<PathBuf>, first: First) -> Result<()> {
        if held_by(&self.state.host(&record.id).running())?.is_some() {
            return Ok(());
        }
        // If it ended a moment ago, its processes may still be on their way out, with the disk in their hands.
        Cgroups::find(&self.hash)?.remove_host(&record.id)?;
        let (channel, mut child) =
            Start::new(&self.ctl, Step::Supervise, &record.name).spawn(self.state.root())?;
        let boot = Boot {
            record: record.clone(),
            hash: self.hash.clone(),
            layers,
            forget: first.forget,
            seeds: first.seeds,
        };
        let booted = channel.send(&boot).and_then(|()| channel.receive());
        // Its parent may live on for long: somebody has to take its exit code, or it stays a zombie.
        thread::spawn(move || child.wait());
        booted
    }

    pub(crate) fn stop(&self, id: &str) -> Result<()> {
        let host = self.state.host(id);
        let _turn = host.lock()?.ok_or_else(|| gone(&host))?;
        self.shut_down(&host)?;
        self.forget(id)
    }

    /// The process of a running host that is in the cloud for as long as the host is up; waits until the deadline for a
    /// host that reboots.
    pub(crate) fn keeper(&self, id: &str, name: &str, deadline: Instant) -> io::Result<u32> {
        let unreachable =
            |what: &str| io::Error::new(io::ErrorKind::HostUnreachable, format!("{name} {what}"));
        loop {
            let pids = held_by(&self.state.host(id).running()).map_err(io::Error::other)?;
            match pids.as_deref() {
                None => return Err(unreachable("is not running")),
                Some([_, _, keeper]) => return Ok(*keeper),
                // Booted by a ctl whose supervisors did not let hosts reboot.
                Some([supervisor, _]) => return Ok(*supervisor),
                Some(_) if Instant::now() > deadline => return Err(unreachable("is booting")),
                Some(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
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

    pub(crate) fn destroy(&self, id: &str) -> Result<()> {
        let host = self.state.host(id);
        match host.lock()? {
            Some(_turn) => self.remove(id),
            None if host.root().exists() => self.remove(id),
            None => Ok(()),
        }
    }

    /// Ends a host and removes all that it was, however little that is; the caller holds its lock.
    fn remove(&self, id: &str) -> Result<()> {
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
    pub(crate) fn clear_disk(&self, host: &HostDir) -> Result<()> {
        let map = IdMap::of_this_user()?;
        ["upper", "work"]
            .into_iter()
            .try_for_each(|name| remove_tree(&self.ctl, &map, &host.root().join(name)))
    }
}

/// What is done to a disk before its first boot.
#[derive(Default)]
struct First {
    forget: Vec<PathBuf>,
    seeds: Vec<SeedFile>,
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

pub(crate) fn gone(host: &HostDir) -> Error {
    Error::invalid(format!("no local host is at {}", host.root().display()))
        .hint("it may have been destroyed a moment ago")
}

/// `l-` and ten hex digits: the same for the same transaction.
fn host_id(tid: &str) -> String {
    let sum = digest(&SHA256, tid.as_bytes());
    let hex: String = sum.as_ref()[..5].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("l-{hex}")
}

/// A role becomes part of a host name, and that of a path.
fn check_role(role: &str) -> Result<()> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let valid = role.bytes().all(letter)
        && role.starts_with(|first: char| first.is_ascii_lowercase())
        && role.len() <= 50;
    if valid && !role.ends_with(['-', '_']) {
        return Ok(());
    }
    Err(Error::invalid(format!("{role:?} cannot be a role"))
        .hint("lower-case letters, digits, _ and -, a letter first, at most 50"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_transaction_one_id() {
        assert_eq!(host_id("a"), host_id("a"));
        assert_ne!(host_id("a"), host_id("b"));
        assert_eq!(host_id("a").len(), 12);
    }

    #[test]
    fn roles_are_host_names() {
        for role in ["db", "web-2", "web_edge", "a"] {
            check_role(role).unwrap();
        }
        for role in ["", "-db", "db-", "DB", "a/b", "a b", "..", "1a"] {
            assert!(check_role(role).is_err(), "{role:?}");
        }
    }
}
