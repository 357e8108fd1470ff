//! `host.json`: the record of a host's launch. Whether the host is running is never stored here.

use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::{
    failure::Doing,
    state::{HostDir, StateDir, held_by, write_atomically},
};
use crate::{
    error::{Error, Result},
    provider::{Fingerprint, Host, HostState, ImageId, Kind, Usage},
};

/// Format version.
const VERSION: u32 = 2;

/// Record of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) fleet: String,
    pub(super) role: String,
    pub(super) tid: String,
    pub(super) address: std::net::Ipv4Addr,
    pub(super) image: ImageId,
    pub(super) memory: Option<u64>,
    pub(super) launched_at: i64,
    #[serde(default)]
    pub(super) fingerprint: Fingerprint,
    #[serde(default)]
    pub(super) clone_of: Option<String>,
    pub(super) usage: Usage,
    /// The host has started its init at least once, so its disk is complete.
    pub(super) booted: bool,
}

impl Record {
    /// The record of a host that has not booted yet.
    pub(super) fn new(
        launch: &crate::provider::Launch,
        id: String,
        name: String,
        address: std::net::Ipv4Addr,
        launched_at: i64,
    ) -> Self {
        Self {
            version: VERSION,
            id,
            name,
            fleet: launch.fleet.clone(),
            role: launch.role.clone(),
            tid: launch.tid.clone(),
            address,
            image: launch.image.clone(),
            memory: launch.settings.memory,
            launched_at,
            fingerprint: launch.fingerprint.clone(),
            clone_of: launch.clone_of.clone(),
            usage: launch.usage.clone(),
            booted: false,
        }
    }

    /// Reads a host's record; `None` if the host is incomplete or gone.
    pub(super) fn read(host: &HostDir) -> Result<Option<Self>> {
        let path = host.record();
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.doing(|| format!("cannot read {}", path.display()))?,
        };
        let record: Self =
            serde_json::from_slice(&text).doing(|| format!("{} is damaged", path.display()))?;
        if record.version != VERSION {
            return Err(Error::invalid(format!(
                "{} has format {}; this ctl reads format {VERSION}",
                path.display(),
                record.version
            ))
            .hint("use the ctl that launched this host"));
        }
        Ok(Some(record))
    }

    /// The records of all hosts.
    pub(super) fn all(state: &StateDir) -> Result<Vec<Self>> {
        let mut records = Vec::new();
        for id in state.host_ids()? {
            records.extend(Self::read(&state.host(&id))?);
        }
        Ok(records)
    }

    /// Replaces a host's record atomically.
    pub(super) fn write(&self, host: &HostDir) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).doing(|| "cannot encode host.json")?;
        write_atomically(&host.record(), &text)
    }

    /// The record as a [`Host`] with its current state.
    pub(super) fn into_host(self, host: &HostDir) -> Result<Host> {
        let state = if held_by(&host.running())?.is_some() { HostState::Running } else { HostState::Stopped };
        Ok(Host {
            provider: Kind::Local,
            id: self.id,
            name: self.name,
            fleet: self.fleet,
            role: self.role,
            tid: self.tid,
            state,
            address: self.address.to_string(),
            image: self.image,
            memory: self.memory,
            class: "local".to_owned(),
            spot: false,
            region: String::new(),
            launched_at: self.launched_at,
            fingerprint: self.fingerprint,
            clone_of: self.clone_of,
            usage: self.usage,
        })
    }
}
