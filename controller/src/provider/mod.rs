//! Where hosts come from. A provider launches machines, remembers a few facts of each, and hands over byte
//! streams to them; it knows nothing of certificates, bundles or Puppet.

mod dial;
#[cfg(feature = "ec2")]
pub mod ec2;
mod last_words;
pub mod local;
pub(crate) mod name;
mod programs;
pub mod ssh;
mod units;

use std::{
    fmt::Debug,
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use proto::bundle::Digest;
use serde::{Deserialize, Deserializer, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::async_trait;

pub use crate::config::Kind;
use crate::{
    config::RoleConfig,
    error::{Error, Result},
};

/// What to launch.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Fleet that the host will belong to.
    pub fleet: String,
    /// Role, such as `db`.
    pub role: String,
    /// A name that was free when the caller looked (`name::free`); a provider that can do better looks again.
    pub name: String,
    /// Enrolment transaction id, kept as a tag: launching twice with one tid yields one host.
    pub tid: String,
    /// Image to boot, from [`Provider::image`].
    pub image: ImageId,
    /// The role's settings.
    pub settings: RoleConfig,
    /// What the provider is to remember from the start.
    pub usage: Usage,
    /// What cannot be changed in place, from [`Provider::fingerprint`].
    pub fingerprint: Fingerprint,
    /// Name of the host that it is a copy of.
    pub clone_of: Option<String>,
    /// The enrol document, JSON, readable by root on the host alone.
    pub enrol_document: Vec<u8>,
}

/// Names an image: for `local`, its content key; for `ec2`, the AMI's id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageId(pub String);

/// An image that hosts of a fleet can boot from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The provider it is for.
    pub provider: Kind,
    /// The provider's name of it.
    pub id: ImageId,
    /// A name for people; may be empty.
    pub name: String,
    /// Version of the agent inside; empty if it is not known.
    pub agent: String,
    /// Seconds since the Unix epoch.
    pub baked_at: i64,
    /// Region it is in; empty where there are none.
    pub region: String,
    /// Made to be booted from again, and found good. Others are on their way to that, or left over.
    pub finished: bool,
}

/// Is it up?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostState {
    /// Booting or up.
    Running,
    /// On its way down; it can be started when it is stopped.
    Stopping,
    /// Down, its disk kept.
    Stopped,
}

/// How far a host is, and whether anybody has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Launched; no controller has seen it speak with its own certificate yet.
    #[default]
    Launched,
    /// Enrolled; somebody is about to use it, and has not said that he is done.
    Claimed,
    /// Somebody has it.
    Used,
    /// Nobody has it: it may be claimed.
    Idle,
}

impl Standing {
    /// Every standing.
    pub const ALL: [Self; 4] = [Self::Launched, Self::Claimed, Self::Used, Self::Idle];

    /// Its name in tags.
    pub fn name(self) -> &'static str {
        match self {
            Self::Launched => "launched",
            Self::Claimed => "claimed",
            Self::Used => "used",
            Self::Idle => "idle",
        }
    }
}

/// Who has a host, until when, and what was put on it last. The provider remembers it; the host itself
/// arbitrates (see `pool::claim`), so it may be out of date.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// How far the host is.
    pub standing: Standing,
    /// The user who has it, or had it last.
    #[serde(default)]
    pub owner: String,
    /// The process that took it (see `holder`).
    #[serde(default)]
    pub holder: String,
    /// Id of its present claim, or of its last one if nobody has it.
    #[serde(default)]
    pub claim: String,
    /// End of the lease in seconds since the Unix epoch; 0 for none.
    #[serde(default)]
    pub lease_until: i64,
    /// Commit of the bundle applied last, 12 digits, with a `+` if the tree was not as committed; empty before the first, and for
    /// a tree that is not in git.
    #[serde(default)]
    pub commit: String,
    /// Digest of the bundle applied last; empty before the first.
    #[serde(default, deserialize_with = "digest")]
    pub bundle: String,
}

/// What was once kept under this name, a commit or the first digits of a digest, is as if it had never been set.
fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    String::deserialize(deserializer).map(Usage::whole_digest)
}

impl Usage {
    /// `text` if it is a digest, else nothing.
    pub(crate) fn whole_digest(text: String) -> String {
        if text.parse::<Digest>().is_ok() { text } else { String::new() }
    }
}

/// What a host was made as and cannot be changed in place: settings by name, in order of name.
pub type Fingerprint = std::collections::BTreeMap<String, String>;

/// A host as its provider knows it: tags and liveness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The provider it is from.
    pub provider: Kind,
    /// The provider's id, for machines; also the host-id in its certificate.
    pub id: String,
    /// `<role>-<n>`, for people.
    pub name: String,
    /// Fleet it was launched for.
    pub fleet: String,
    /// Role it was launched for.
    pub role: String,
    /// Enrolment transaction id.
    pub tid: String,
    /// Running or stopped.
    pub state: HostState,
    /// Address to dial, or inside the provider's network; empty while there is none.
    pub address: String,
    /// Image it was booted from.
    pub image: ImageId,
    /// Memory limit in bytes.
    pub memory: Option<u64>,
    /// What it costs by: `local`, or an instance type and its market, such as `t3.small spot`.
    pub class: String,
    /// An instance of the spot market; `class` says so to people.
    #[serde(skip)]
    pub spot: bool,
    /// Region it is in; empty where there are none.
    pub region: String,
    /// Seconds since the Unix epoch.
    pub launched_at: i64,
    /// What it was made as.
    #[serde(default)]
    pub fingerprint: Fingerprint,
    /// Name of the host that it is a copy of.
    #[serde(default)]
    pub clone_of: Option<String>,
    /// Who has it.
    #[serde(flatten)]
    pub usage: Usage,
}

impl Host {
    /// A controller has seen it speak with its own certificate.
    pub fn enrolled(&self) -> bool {
        self.usage.standing != Standing::Launched
    }
}

/// What goes into an image.
#[derive(Clone, Debug)]
pub struct ImageSpec {
    /// The agent binary to install.
    pub agent: PathBuf,
    /// Distribution packages to add.
    pub packages: Vec<String>,
}

/// A connection to a host, however it is made.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

/// Any [`ByteStream`].
pub type Stream = Box<dyn ByteStream>;

/// Gets a line a step.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

/// A source of hosts. Every call is safe to repeat.
#[async_trait]
pub trait Provider: Debug + Send + Sync {
    /// Which one it is.
    fn kind(&self) -> Kind;
    /// How long a host may take from its launch or start to an answering port.
    fn boot_time(&self) -> Duration {
        Duration::from_secs(60)
    }
    /// Finds the image that hosts of this role boot from; a provider that can do so in no time bakes it.
    async fn image(&self, role: &RoleConfig, progress: Progress<'_>) -> Result<ImageId>;
    /// What a host launched now with these settings could not change later. No call to the provider.
    fn fingerprint(&self, role: &RoleConfig, image: &ImageId) -> Fingerprint;
    /// Launches one host. Returns as soon as it boots; the same tid yields the same host.
    async fn launch(&self, launch: &Launch) -> Result<Host>;
    /// Launches a copy of `host`'s disk as `launch` says, but for the image, which is the host's. The host goes on
    /// as it is. The copy boots as another machine, so that its agent does not speak with the host's identity; the
    /// flight record is copied only `with_record`.
    async fn clone_host(
        &self,
        host: &Host,
        _launch: &Launch,
        _with_record: bool,
        _progress: Progress<'_>,
    ) -> Result<Host> {
        Err(Error::invalid(format!("{} cannot be copied: it is a host of {}", host.name, self.kind())))
    }
    /// All hosts of a fleet, in any state but ended, ordered by role and number.
    async fn hosts(&self, fleet: &str) -> Result<Vec<Host>>;
    /// [`Provider::hosts`], in all regions there are.
    async fn hosts_everywhere(&self, fleet: &str) -> Result<Vec<Host>> {
        self.hosts(fleet).await
    }
    /// Remembers the name and usage that `host` has now.
    async fn mark(&self, host: &Host) -> Result<()>;
    /// Boots a stopped host with its disk, and returns it with its new address; a no-op if it runs.
    async fn start(&self, host: &Host) -> Result<Host>;
    /// Shuts a host down in order and keeps its disk; a no-op if it is stopped.
    async fn stop(&self, host: &Host) -> Result<()>;
    /// Ends a host and removes all that it was; a no-op if it is gone.
    async fn destroy(&self, host: &Host) -> Result<()>;
    /// Opens a connection to a port of the host, trying again until `deadline` while nobody listens there yet.
    ///
    /// The error keeps its kind: `ConnectionRefused` when nobody listens, `HostUnreachable` or
    /// `NetworkUnreachable` when the host is not there, `TimedOut` when it does not answer.
    async fn dial_until(&self, host: &Host, port: u16, deadline: Instant) -> io::Result<Stream>;
    /// What the host wrote to its console.
    async fn console(&self, host: &Host) -> Result<String>;
    /// Makes the image that hosts boot from, unless there is one of the same content.
    async fn bake(&self, progress: Progress<'_>) -> Result<ImageId> {
        self.image(&RoleConfig::default(), progress).await
    }
    /// All images that were made for the fleet, the newest first.
    async fn images(&self) -> Result<Vec<Image>> {
        Ok(Vec::new())
    }
    /// Removes an image that no host needs; a no-op if it is gone.
    async fn remove_image(&self, _image: &ImageId) -> Result<()> {
        Ok(())
    }
    /// Processes that the kernel killed for want of memory since the host was booted; `None` if it is not known.
    fn oom_kills(&self, _host: &Host) -> Option<u64> {
        None
    }
}
