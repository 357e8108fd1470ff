//! Where hosts come from. A provider launches machines and hands over byte streams to them; it knows
//! nothing of certificates, bundles or Puppet.

pub mod local;

use std::{future::Future, io, path::PathBuf, time::Instant};

use tokio::net::TcpStream;

use crate::error::Result;

/// What to launch.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Fleet that the host will belong to.
    pub fleet: String,
    /// Role, such as `db`; the host is named `<role>-<n>` with the lowest free n.
    pub role: String,
    /// Enrolment transaction id, kept as a tag: launching twice with one tid yields one host.
    pub tid: String,
    /// Image to boot, from [`Provider::image`].
    pub image: ImageId,
    /// Memory limit in bytes.
    pub memory: Option<u64>,
    /// The enrol document, JSON, readable by root on the host alone.
    pub enrol_document: Vec<u8>,
}

/// Names an image: for `local`, its content key.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageId(pub String);

/// Is it up?
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostState {
    /// Booting or up.
    Running,
    /// Down, its disk kept.
    Stopped,
}

/// A host as its provider knows it: tags and liveness.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Host {
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
    /// Address inside the provider's network.
    pub address: String,
    /// Image it was booted from.
    pub image: ImageId,
    /// Memory limit in bytes.
    pub memory: Option<u64>,
    /// Seconds since the Unix epoch.
    pub launched_at: i64,
    /// A controller has seen it speak with its own certificate.
    pub enrolled: bool,
}

/// What goes into an image.
#[derive(Clone, Debug)]
pub struct ImageSpec {
    /// The agent binary to install.
    pub agent: PathBuf,
    /// Distribution packages to add.
    pub packages: Vec<String>,
}

/// A source of hosts.
///
/// `local` is the first implementation; EC2 and existing machines are the others this shape was made for.
pub trait Provider: Send + Sync {
    /// Finds the image of this content, or bakes it. `progress` gets a line a step.
    fn image(
        &self,
        spec: &ImageSpec,
        progress: &(dyn Fn(&str) + Sync),
    ) -> impl Future<Output = Result<ImageId>> + Send;
    /// Launches one host. Returns as soon as it boots; safe to repeat with the same tid.
    fn launch(&self, launch: &Launch) -> impl Future<Output = Result<Host>> + Send;
    /// All hosts of a fleet, in any state, ordered by name.
    fn hosts(&self, fleet: &str) -> impl Future<Output = Result<Vec<Host>>> + Send;
    /// Marks a host enrolled.
    fn mark_enrolled(&self, host: &Host) -> impl Future<Output = Result<()>> + Send;
    /// Boots a stopped host with its disk; a no-op if it runs.
    fn start(&self, host: &Host) -> impl Future<Output = Result<()>> + Send;
    /// Shuts a host down in order and keeps its disk; a no-op if it is stopped.
    fn stop(&self, host: &Host) -> impl Future<Output = Result<()>> + Send;
    /// Ends a host and removes all that it was.
    fn destroy(&self, host: &Host) -> impl Future<Output = Result<()>> + Send;
    /// Opens a connection to a port of the host, trying again until `deadline` while nobody listens there yet.
    ///
    /// The error keeps its kind: `ConnectionRefused` when nobody listens, `HostUnreachable` or
    /// `NetworkUnreachable` when the host is not there, `TimedOut` when it does not answer.
    fn dial_until(
        &self,
        host: &Host,
        port: u16,
        deadline: Instant,
    ) -> impl Future<Output = io::Result<TcpStream>> + Send;
    /// [`Provider::dial_until`] with a single attempt.
    fn dial(&self, host: &Host, port: u16) -> impl Future<Output = io::Result<TcpStream>> + Send {
        self.dial_until(host, port, Instant::now())
    }
    /// What the host wrote to its console.
    fn console(&self, host: &Host) -> impl Future<Output = Result<String>> + Send;
}
