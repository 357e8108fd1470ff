//! Where hosts come from. A provider launches machines, stores a few facts about each, and opens byte streams to
//! them. It knows nothing about certificates, bundles or Puppet.

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
    /// A name that was free when the caller checked (`name::free`); a provider with a lock checks again.
    pub name: String,
    /// Enrolment transaction id, kept as a tag: two launches with the same tid give one host.
    pub tid: String,
    /// Image to boot, from [`Provider::image`].
    pub image: ImageId,
    /// The role's settings.
    pub settings: RoleConfig,
    /// Initial usage for the provider to store.
    pub usage: Usage,
    /// Settings that cannot be changed in place, from [`Provider::fingerprint`].
    pub fingerprint: Fingerprint,
    /// Name of the original, for a clone.
    pub clone_of: Option<String>,
    /// The enrol document (JSON); on the host only root can read it.
    pub enrol_document: Vec<u8>,
}

/// Id of an image: its content key for `local`, the AMI id for `ec2`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageId(pub String);

/// An image for the hosts of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Provider that has the image.
    pub provider: Kind,
    /// The provider's id of the image.
    pub id: ImageId,
    /// Name to show; may be empty.
    pub name: String,
    /// Version of the agent in the image; empty if unknown.
    pub agent: String,
    /// Seconds since the Unix epoch.
    pub baked_at: i64,
    /// Region of the image; empty for providers without regions.
    pub region: String,
    /// Complete and checked. Other images are still being built, or are leftovers.
    pub finished: bool,
}

/// State of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostState {
    /// Booting or up.
    Running,
    /// Shutting down; it can be started once it is stopped.
    Stopping,
    /// Shut down, with its disk kept.
    Stopped,
}

/// Where a host is in its life, and whether it is claimed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Launched; no controller has yet seen the host present its own certificate.
    #[default]
    Launched,
    /// Enrolled and claimed; the claiming controller has not finished yet.
    Claimed,
    /// In use.
    Used,
    /// Free to be claimed.
    Idle,
}

impl Standing {
    /// Every standing.
    pub const ALL: [Self; 4] = [Self::Launched, Self::Claimed, Self::Used, Self::Idle];

    /// The value stored in tags.
    pub fn name(self) -> &'static str {
        match self {
            Self::Launched => "launched",
            Self::Claimed => "claimed",
            Self::Used => "used",
            Self::Idle => "idle",
        }
    }
}

/// Owner and lease of a host, and the last bundle applied. The provider stores this; it may be out of date, because
/// the host itself decides about claims (see `pool::claim`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Standing of the host.
    pub standing: Standing,
    /// Current or last user.
    #[serde(default)]
    pub owner: String,
    /// The controller process that claimed the host (see `holder`).
    #[serde(default)]
    pub holder: String,
    /// Id of the current claim, or of the last one if the host is idle.
    #[serde(default)]
    pub claim: String,
    /// End of the lease in seconds since the Unix epoch; 0 for none.
    #[serde(default)]
    pub lease_until: i64,
    /// Commit of the last applied bundle: 12 digits, with a `+` if the tree had uncommitted changes. Empty before the
    /// first apply, and for a tree outside git.
    #[serde(default)]
    pub commit: String,
    /// Digest of the last applied bundle; empty before the first apply.
    #[serde(default, deserialize_with = "digest")]
    pub bundle: String,
}

/// Older versions stored a commit or a shortened digest in this field; such values read as empty.
fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    String::deserialize(deserializer).map(Usage::whole_digest)
}

impl Usage {
    /// `text` if it is a complete digest, else empty.
    pub(crate) fn whole_digest(text: String) -> String {
        if text.parse::<Digest>().is_ok() { text } else { String::new() }
    }
}

/// Settings of a host that cannot be changed in place, ordered by name.
pub type Fingerprint = std::collections::BTreeMap<String, String>;

/// A host as its provider knows it: tags and state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Provider of the host.
    pub provider: Kind,
    /// The provider's id; also the host-id in the host's certificate.
    pub id: String,
    /// Name to show: `<role>-<n>`.
    pub name: String,
    /// Fleet that the host was launched for.
    pub fleet: String,
    /// Role that the host was launched for.
    pub role: String,
    /// Enrolment transaction id.
    pub tid: String,
    /// Running or stopped.
    pub state: HostState,
    /// Address to dial, or in the provider's own network; empty while the host has none.
    pub address: String,
    /// Image that the host was booted from.
    pub image: ImageId,
    /// Memory limit in bytes.
    pub memory: Option<u64>,
    /// Cost class: `local`, or an instance type with its market, such as `t3.small spot`.
    pub class: String,
    /// A spot instance; shown as part of `class`.
    #[serde(skip)]
    pub spot: bool,
    /// Region of the host; empty for providers without regions.
    pub region: String,
    /// Seconds since the Unix epoch.
    pub launched_at: i64,
    /// Settings of the launch that cannot be changed in place.
    #[serde(default)]
    pub fingerprint: Fingerprint,
    /// Name of the original, for a clone.
    #[serde(default)]
    pub clone_of: Option<String>,
    /// Owner, lease and last bundle.
    #[serde(flatten)]
    pub usage: Usage,
}

impl Host {
    /// Whether a controller has seen the host present its own certificate.
    pub fn enrolled(&self) -> bool {
        self.usage.standing != Standing::Launched
    }
}

#[cfg(test)]
impl Host {
    /// A running host of the role `db`, for tests to vary.
    pub(crate) fn example(provider: Kind, id: &str, name: &str) -> Self {
        Self {
            provider,
            id: id.into(),
            name: name.into(),
            fleet: "f".into(),
            role: "db".into(),
            tid: id.into(),
            state: HostState::Running,
            address: String::new(),
            image: ImageId::default(),
            memory: None,
            class: "local".into(),
            spot: false,
            region: String::new(),
            launched_at: 0,
            fingerprint: Fingerprint::default(),
            clone_of: None,
            usage: Usage::default(),
        }
    }
}

/// Contents of an image.
#[derive(Clone, Debug)]
pub struct ImageSpec {
    /// The agent binary to install.
    pub agent: PathBuf,
    /// Distribution packages to add.
    pub packages: Vec<String>,
}

/// A connection to a host, over any transport.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

/// Any [`ByteStream`].
pub type Stream = Box<dyn ByteStream>;

/// Callback that receives one line per step.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

/// A source of hosts. Every call is safe to repeat.
#[async_trait]
pub trait Provider: Debug + Send + Sync {
    /// Kind of this provider.
    fn kind(&self) -> Kind;
    /// Longest time from launch or start until the port answers.
    fn boot_time(&self) -> Duration {
        Duration::from_secs(60)
    }
    /// Finds the image for hosts of this role. A provider that can bake quickly bakes a missing one.
    async fn image(&self, role: &RoleConfig, progress: Progress<'_>) -> Result<ImageId>;
    /// Settings that a host launched now could not change in place later. Makes no network call.
    fn fingerprint(&self, role: &RoleConfig, image: &ImageId) -> Fingerprint;
    /// Launches one host and returns as soon as it boots. The same tid returns the same host.
    async fn launch(&self, launch: &Launch) -> Result<Host>;
    /// Launches a copy of `host`'s disk according to `launch`, except for the image, which is the host's own. The
    /// host keeps running. The copy boots as another machine, so its agent does not use the host's identity. The
    /// flight record is copied only if `with_record` is set.
    async fn clone_host(
        &self,
        host: &Host,
        _launch: &Launch,
        _with_record: bool,
        _progress: Progress<'_>,
    ) -> Result<Host> {
        Err(Error::invalid(format!("cannot clone {}: the provider {} has no copies", host.name, self.kind())))
    }
    /// All hosts of a fleet that have not ended, ordered by role and number.
    async fn hosts(&self, fleet: &str) -> Result<Vec<Host>>;
    /// [`Provider::hosts`] in all regions.
    async fn hosts_everywhere(&self, fleet: &str) -> Result<Vec<Host>> {
        self.hosts(fleet).await
    }
    /// Stores the name and usage of `host`.
    async fn mark(&self, host: &Host) -> Result<()>;
    /// Boots a stopped host from its disk, and returns it with its new address. No-op if it is running.
    async fn start(&self, host: &Host) -> Result<Host>;
    /// Shuts a host down cleanly and keeps its disk. No-op if it is stopped.
    async fn stop(&self, host: &Host) -> Result<()>;
    /// Ends a host and removes everything of it. No-op if it is gone.
    async fn destroy(&self, host: &Host) -> Result<()>;
    /// Opens a connection to a port of the host; retries until `deadline` while the port is closed.
    ///
    /// The error keeps its kind: `ConnectionRefused` if the port is closed, `HostUnreachable` or
    /// `NetworkUnreachable` if the host is missing, `TimedOut` if it does not answer.
    async fn dial_until(&self, host: &Host, port: u16, deadline: Instant) -> io::Result<Stream>;
    /// Output of the host's console.
    async fn console(&self, host: &Host) -> Result<String>;
    /// Builds the image for hosts, unless one with the same content exists.
    async fn bake(&self, progress: Progress<'_>) -> Result<ImageId> {
        self.image(&RoleConfig::default(), progress).await
    }
    /// All images built for the fleet, newest first.
    async fn images(&self) -> Result<Vec<Image>> {
        Ok(Vec::new())
    }
    /// Removes an unused image. No-op if it is gone.
    async fn remove_image(&self, _image: &ImageId) -> Result<()> {
        Ok(())
    }
    /// Out-of-memory kills since the host was booted; `None` if unknown.
    fn oom_kills(&self, _host: &Host) -> Option<u64> {
        None
    }
}
