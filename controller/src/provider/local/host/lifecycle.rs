//! Launch and start. Each can be repeated, and each begins by taking the host's lock, so that two controllers take turns.

use std::{collections::BTreeSet, fs::File, path::PathBuf, thread};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;

use super::{
    seeds::{self, SeedFile},
    supervise::Boot,
};
use crate::{
    error::{Error, Result},
    provider::{
        Host, Launch,
        local::{
            cloud::network,
            image::layers,
            inner::Inner,
            namespace::{
                cgroup::Cgroups,
                step::{Start, Step},
            },
            record::Record,
            state::{HostDir, held_by, lock},
        },
        name,
    },
};

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
            let turn = host.lock()?.ok_or_else(|| host.gone())?;
            let record = self.allocate(launch)?;
            record.write(host)?;
            return Ok((turn, record));
        }
        // It may be booting at the other launcher's hands; others need not wait for that.
        drop(allocation);
        let turn = host.lock()?.ok_or_else(|| host.gone())?;
        let record = Record::read(host)?.ok_or_else(|| host.gone())?;
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

    pub(crate) fn start(&self, id: &str) -> Result<Host> {
        let host = self.state.host(id);
        let _turn = host.lock()?.ok_or_else(|| host.gone())?;
        let record = Record::read(&host)?.ok_or_else(|| host.gone())?;
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
}

/// What is done to a disk before its first boot.
#[derive(Default)]
struct First {
    forget: Vec<PathBuf>,
    seeds: Vec<SeedFile>,
}

/// `l-` and ten hex digits: the same for the same transaction.
fn host_id(tid: &str) -> String {
    let sum = digest(&SHA256, tid.as_bytes());
    let hex = hex::encode(&sum.as_ref()[..5]);
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
