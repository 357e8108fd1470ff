//! Launch and start. Both are safe to repeat, and both take the host's lock first, so that controllers take turns.

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
    /// Launches a host, or returns the one that this transaction already launched.
    pub(crate) fn launch(&self, launch: &Launch) -> Result<Host> {
        self.create(launch, Vec::new(), |_| Ok(()))
    }

    /// Creates a host: `fill` prepares its disk, then it boots without the files in `forget`. No-op if this transaction
    /// has already done so.
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
                    Err(left) => error.hint(format!("its leftovers could not be removed: {left}")),
                }
            })?;
            record.booted = true;
            record.write(&host)?;
        }
        record.into_host(&host)
    }

    /// Takes the host's lock, and writes its record on the first launch.
    fn admit(&self, launch: &Launch, host: &HostDir) -> Result<(File, Record)> {
        let allocation = lock(&self.state.allocation_lock())?;
        // The lock keeps others from removing the image until the record marks it as used.
        layers::layers(&self.state, &launch.image)?;
        host.create()?;
        if Record::read(host)?.is_none() {
            let turn = host.lock()?.ok_or_else(|| host.gone())?;
            let record = self.allocate(launch)?;
            record.write(host)?;
            return Ok((turn, record));
        }
        // Another controller may be booting the host; further launches need not wait for that.
        drop(allocation);
        let turn = host.lock()?.ok_or_else(|| host.gone())?;
        let record = Record::read(host)?.ok_or_else(|| host.gone())?;
        Ok((turn, record))
    }

    /// A record with the lowest free name and address. The caller holds the allocation lock.
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
                .hint(format!("launch it again, or remove it with `ctl destroy {}`", record.name)));
        }
        let layers = layers::layers(&self.state, &record.image)?;
        self.boot(&record, layers, First::default())
            .map_err(|error| error.context(format!("cannot start {}", record.name)))?;
        record.into_host(&host)
    }

    /// Boots a host; returns when its init is running and its network is up. No-op if the host is running.
    fn boot(&self, record: &Record, layers: Vec<PathBuf>, first: First) -> Result<()> {
        if held_by(&self.state.host(&record.id).running())?.is_some() {
            return Ok(());
        }
        // If the host has just ended, its processes may still be exiting and using the disk.
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
        // The supervisor would stay a zombie if this process lives on without waiting for it.
        thread::spawn(move || child.wait());
        booted
    }
}

/// Changes to a disk before its first boot.
#[derive(Default)]
struct First {
    forget: Vec<PathBuf>,
    seeds: Vec<SeedFile>,
}

/// `l-` and ten hex digits, derived from the transaction id.
fn host_id(tid: &str) -> String {
    let sum = digest(&SHA256, tid.as_bytes());
    let hex = hex::encode(&sum.as_ref()[..5]);
    format!("l-{hex}")
}

/// A role becomes part of a host name and so of a path.
fn check_role(role: &str) -> Result<()> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let valid = role.bytes().all(letter)
        && role.starts_with(|first: char| first.is_ascii_lowercase())
        && role.len() <= 50;
    if valid && !role.ends_with(['-', '_']) {
        return Ok(());
    }
    Err(Error::invalid(format!("{role:?} cannot be a role"))
        .hint("use up to 50 lower-case letters, digits, _ and -, with a letter first"))
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
