//! Existing machines as hosts. The agent is installed once, over the user's own ssh; from then on they are hosts like
//! any other, but this provider never launches or ends them. There is no cloud to keep tags, so the provider keeps a
//! file for each machine beside the fleet's keys (see [`record`]).
//!
//! - [`openssh`]: the user's ssh client,
//! - [`machine`]: the probe of a machine, and its requirements,
//! - [`install`]: installation and removal of the agent.

mod install;
mod machine;
mod openssh;
mod record;

use std::{
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use tonic::async_trait;

pub use self::install::removal;
use self::{machine::Machine, record::Record};
pub(crate) use self::{openssh::Target, record::Adoption};
use super::{
    Fingerprint, Host, Image, ImageId, Kind, Launch, Progress, Provider, Stream, dial, programs::Programs,
};
use crate::{
    config::{ConnectConfig, RoleConfig},
    error::{Error, Result},
};

/// The adopted machines of a CA directory.
#[derive(Clone, Debug)]
pub struct Ssh {
    records: PathBuf,
    agent: PathBuf,
    connect: ConnectConfig,
}

impl Ssh {
    /// Reads records from the CA directory `ca`. `agent` is the program to install on new machines.
    pub(crate) fn new(ca: &Path, agent: PathBuf, connect: ConnectConfig) -> Self {
        Self { records: ca.join("adopted"), agent, connect }
    }

    /// Installs the agent with its enrol document, and records the machine. The machine still has to enrol.
    ///
    /// # Errors
    /// The machine cannot be reached over ssh, does not meet the requirements (nothing is changed then), or the
    /// installation fails.
    pub(crate) async fn adopt(
        &self,
        target: &Target,
        adoption: Adoption,
        progress: Progress<'_>,
    ) -> Result<Host> {
        let programs = Programs::read(&self.agent)?;
        progress(&format!("checking {target}"));
        let machine = Machine::parse(&target.run(machine::PROBE_COMMAND, machine::PROBE.as_bytes()).await?)?;
        machine.check(&programs, &adoption.fleet).map_err(|error| error.context_once(&target.to_string()))?;
        progress(&format!("installing the agent on {target}"));
        install::install(target, machine.root, &programs, &adoption.enrol_document).await?;
        let record = Record::new(adoption, target.to_string());
        record.write(&self.records)?;
        Ok(record.into())
    }
}

fn not_ours(host: &Host, deed: &str) -> Error {
    Error::invalid(format!("{} is an adopted machine: ctl cannot {deed} it", host.name))
}

fn there_already() -> Error {
    Error::invalid("the provider ssh has existing machines only: it cannot launch, clone or bake")
        .hint("`ctl adopt USER@HOST --role ROLE` turns a machine into a host of the fleet")
}

#[async_trait]
impl Provider for Ssh {
    fn kind(&self) -> Kind {
        Kind::Ssh
    }

    async fn image(&self, _role: &RoleConfig, _progress: Progress<'_>) -> Result<ImageId> {
        Err(there_already())
    }

    fn fingerprint(&self, _role: &RoleConfig, _image: &ImageId) -> Fingerprint {
        Fingerprint::default()
    }

    async fn launch(&self, _launch: &Launch) -> Result<Host> {
        Err(there_already())
    }

    async fn clone_host(
        &self,
        _host: &Host,
        _launch: &Launch,
        _with_record: bool,
        _progress: Progress<'_>,
    ) -> Result<Host> {
        Err(there_already())
    }

    async fn hosts(&self, fleet: &str) -> Result<Vec<Host>> {
        let records = Record::all(&self.records)?;
        Ok(records.into_iter().filter(|record| record.fleet == fleet).map(Host::from).collect())
    }

    async fn mark(&self, host: &Host) -> Result<()> {
        let mut record = Record::read(&self.records, &host.id)?;
        record.name.clone_from(&host.name);
        record.usage.clone_from(&host.usage);
        record.write(&self.records)
    }

    async fn start(&self, host: &Host) -> Result<Host> {
        Err(not_ours(host, "start").hint("power it on yourself; its agent starts at boot"))
    }

    async fn stop(&self, host: &Host) -> Result<()> {
        Err(not_ours(host, "stop")
            .hint(format!("`ctl run {} -- systemctl poweroff` shuts it down", host.name)))
    }

    /// Removes the machine's record only; the machine keeps running (see [`removal`]).
    async fn destroy(&self, host: &Host) -> Result<()> {
        Record::remove(&self.records, &host.id)
    }

    async fn dial_until(&self, host: &Host, port: u16, deadline: Instant) -> io::Result<Stream> {
        dial::to(&self.connect, &host.address, port, deadline).await
    }

    /// Always empty: no console is recorded.
    async fn console(&self, _host: &Host) -> Result<String> {
        Ok(String::new())
    }

    async fn images(&self) -> Result<Vec<Image>> {
        Ok(Vec::new())
    }

    async fn remove_image(&self, _image: &ImageId) -> Result<()> {
        Err(there_already())
    }
}
