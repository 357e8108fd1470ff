//! Machines that were there before: their agent is installed over the user's own ssh, once, and from then on
//! they are hosts like any other. Nobody launches or ends them here; what is known of them is kept beside the
//! fleet's keys (see [`record`]), because there is no cloud to keep it.
//!
//! - [`openssh`]: the user's ssh client,
//! - [`machine`]: what is asked of a machine first, and whether it will do,
//! - [`install`]: what is put there, and how it is taken away.

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
    /// The machines whose records are in the CA directory `ca`. `agent` is what is installed on others.
    pub(crate) fn new(ca: &Path, agent: PathBuf, connect: ConnectConfig) -> Self {
        Self { records: ca.join("adopted"), agent, connect }
    }

    /// Installs the agent with its enrol document, and remembers the machine. It is not enrolled yet.
    ///
    /// # Errors
    /// The machine cannot be reached over ssh, will not do (then nothing was touched), or refuses the agent.
    pub(crate) async fn adopt(
        &self,
        target: &Target,
        adoption: Adoption,
        progress: Progress<'_>,
    ) -> Result<Host> {
        let programs = Programs::read(&self.agent)?;
        progress(&format!("looking at {target}"));
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
    Error::invalid(format!("{} is a machine that was adopted: it cannot be {deed} from here", host.name))
}

fn there_already() -> Error {
    Error::invalid("machines of the provider ssh are there already: they are neither launched nor copied")
        .hint("`ctl adopt USER@HOST --role ROLE` makes a machine a host of the fleet")
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
        Err(not_ours(host, "started").hint("switch it on where it stands; its agent starts with it"))
    }

    async fn stop(&self, host: &Host) -> Result<()> {
        Err(not_ours(host, "stopped").hint(format!("`ctl run {} -- systemctl poweroff` does it", host.name)))
    }

    /// Forgets the machine; the machine itself goes on (see [`removal`]).
    async fn destroy(&self, host: &Host) -> Result<()> {
        Record::remove(&self.records, &host.id)
    }

    async fn dial_until(&self, host: &Host, port: u16, deadline: Instant) -> io::Result<Stream> {
        dial::to(&self.connect, &host.address, port, deadline).await
    }

    /// Nobody keeps it.
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
