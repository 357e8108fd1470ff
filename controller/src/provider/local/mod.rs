//! Throw-away hosts on one Linux machine. All hosts of a state directory share a *local cloud*: a user and a network
//! namespace. Each host has its own process, mount, network, name, IPC and cgroup namespaces, an overlay over a baked
//! image, and systemd as its init. The machine itself is not changed.
//!
//! `host` is the life of a host; [`reexecuted`] is the entry point of its processes.

mod cloud;
mod failure;
mod host;
mod image;
mod inner;
mod namespace;
mod record;
mod reexec;
mod state;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Output,
    sync::Arc,
    time::Instant,
};

use aws_lc_rs::digest::{SHA256, digest};
use nix::unistd::geteuid;
use tokio::net::TcpStream;
use tonic::async_trait;

pub use self::reexec::reexecuted;
use self::{
    failure::Doing,
    host::dial,
    image::{bake, images, layers},
    inner::Inner,
    namespace::{cgroup::Cgroups, sandbox, userns::IdMap},
    state::StateDir,
};
use super::{
    Fingerprint, Host, HostState, Image, ImageId, ImageSpec, Kind, Launch, Progress, Provider, Stream,
};
use crate::{
    config::RoleConfig,
    error::{Error, Result},
};

/// The local provider; clones share one state directory.
#[derive(Clone, Debug)]
pub struct Local(Arc<Inner>);

impl Local {
    /// Opens a state directory, and creates it if it is missing. `ctl` is the program to start for work in namespaces;
    /// its `main` must call [`reexecuted`] first. `spec` describes the hosts' image.
    ///
    /// # Errors
    /// The directory cannot be created.
    pub fn open(state_dir: PathBuf, ctl: PathBuf, spec: ImageSpec) -> Result<Self> {
        let state = StateDir::open(&state_dir)?;
        let sum = digest(&SHA256, state.root().as_os_str().as_encoded_bytes());
        let hash = hex::encode(&sum.as_ref()[..6]);
        Ok(Self(Arc::new(Inner { state, hash, ctl, spec })))
    }

    /// The default state directory: `/var/lib/magpie-local` for root, `$XDG_DATA_HOME/magpie/local` for other users.
    ///
    /// # Errors
    /// Neither `XDG_DATA_HOME` nor `HOME` is set.
    pub(crate) fn default_state_dir() -> Result<PathBuf> {
        if geteuid().is_root() {
            return Ok("/var/lib/magpie-local".into());
        }
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        set("XDG_DATA_HOME")
            .or_else(|| Some(set("HOME")?.join(".local/share")))
            .map(|data| data.join("magpie/local"))
            .ok_or_else(|| {
                Error::invalid("neither XDG_DATA_HOME nor HOME is set: there is no place for local hosts")
            })
    }

    /// All images, ordered by name.
    ///
    /// # Errors
    /// The state directory cannot be read.
    pub fn images(&self) -> Result<Vec<ImageId>> {
        layers::list(&self.0.state)
    }

    /// Runs a program of an image in throw-away namespaces. `tree` is mounted read-only at /mnt, which is also the
    /// working directory. There is no network, and files written elsewhere are lost. Blocks.
    ///
    /// # Errors
    /// Namespaces are refused, or the program cannot be started. A non-zero exit code is not an error.
    pub fn run_in_image(&self, image: &ImageId, tree: &Path, argv: &[&str]) -> Result<Output> {
        let Inner { state, ctl, .. } = &*self.0;
        sandbox::run_in(state, ctl, &IdMap::of_this_user()?, layers::layers(state, image)?, tree, argv)
    }

    /// Finds the image with this content, or bakes it.
    ///
    /// # Errors
    /// The agent is missing, or packages cannot be downloaded or installed.
    pub async fn bake(&self, spec: &ImageSpec, progress: Progress<'_>) -> Result<ImageId> {
        let spec = spec.clone();
        let bake = move |inner: &Inner, report: &dyn Fn(&str)| {
            bake::image(&inner.state, &inner.ctl, &IdMap::of_this_user()?, &spec, report)
        };
        self.reporting(bake, progress).await
    }

    /// Bakes only the base of the image, without the agent.
    ///
    /// # Errors
    /// The packages cannot be downloaded or installed.
    pub async fn bake_base(&self, progress: Progress<'_>) -> Result<()> {
        let bake = move |inner: &Inner, report: &dyn Fn(&str)| {
            bake::base(&inner.state, &inner.ctl, &IdMap::of_this_user()?, &inner.spec, report)
        };
        self.reporting(bake, progress).await
    }

    /// Runs blocking work and relays its progress.
    async fn reporting<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner, &dyn Fn(&str)) -> Result<T> + Send + 'static,
        progress: Progress<'_>,
    ) -> Result<T> {
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
        let work = self.block(move |inner| {
            // If the caller has gone, the work goes on without reports.
            let report = |step: &str| drop(send.send(step.to_owned()));
            work(inner, &report)
        });
        let relay = async {
            while let Some(step) = receive.recv().await {
                progress(&step);
            }
        };
        tokio::join!(work, relay).0
    }

    /// Makes an image of a host's disk, including its identity, like a snapshot in a cloud. A running host is frozen
    /// during the copy.
    ///
    /// # Errors
    /// The host is gone, or its disk cannot be copied.
    pub async fn capture(&self, host: &Host) -> Result<ImageId> {
        let id = host.id.clone();
        self.block(move |inner| inner.capture(&id)).await
    }

    /// Runs blocking work on a blocking thread.
    async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&inner)).await.doing(|| "the local provider failed")?
    }
}

#[async_trait]
impl Provider for Local {
    fn kind(&self) -> Kind {
        Kind::Local
    }

    async fn image(&self, _role: &RoleConfig, progress: Progress<'_>) -> Result<ImageId> {
        self.bake(&self.0.spec, progress).await
    }

    fn fingerprint(&self, role: &RoleConfig, image: &ImageId) -> Fingerprint {
        let memory = role.memory.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        [("image".to_owned(), image.0.clone()), ("memory".to_owned(), memory)].into()
    }

    async fn launch(&self, launch: &Launch) -> Result<Host> {
        let launch = launch.clone();
        self.block(move |inner| inner.launch(&launch)).await
    }

    async fn clone_host(
        &self,
        host: &Host,
        launch: &Launch,
        with_record: bool,
        progress: Progress<'_>,
    ) -> Result<Host> {
        let frozen = if host.state == HostState::Running { " (frozen during the copy)" } else { "" };
        progress(&format!("copying the disk of {}{frozen}", host.name));
        let (id, launch) = (host.id.clone(), launch.clone());
        self.block(move |inner| inner.clone_host(&id, &launch, with_record)).await
    }

    async fn hosts(&self, fleet: &str) -> Result<Vec<Host>> {
        let fleet = fleet.to_owned();
        self.block(move |inner| inner.hosts(&fleet)).await
    }

    async fn mark(&self, host: &Host) -> Result<()> {
        let host = host.clone();
        self.block(move |inner| inner.mark(&host)).await
    }

    async fn start(&self, host: &Host) -> Result<Host> {
        let id = host.id.clone();
        self.block(move |inner| inner.start(&id)).await
    }

    async fn stop(&self, host: &Host) -> Result<()> {
        let id = host.id.clone();
        self.block(move |inner| inner.stop(&id)).await
    }

    async fn destroy(&self, host: &Host) -> Result<()> {
        let id = host.id.clone();
        self.block(move |inner| inner.destroy(&id)).await
    }

    async fn dial_until(&self, host: &Host, port: u16, deadline: Instant) -> io::Result<Stream> {
        let address: IpAddr = host.address.parse().map_err(io::Error::other)?;
        let (inner, id, name) = (Arc::clone(&self.0), host.id.clone(), host.name.clone());
        let connected = tokio::task::spawn_blocking(move || {
            let keeper = inner.keeper(&id, &name, deadline)?;
            let patience = deadline.saturating_duration_since(Instant::now());
            dial::dial(&inner.state, &inner.ctl, keeper, SocketAddr::new(address, port), &name, patience)
        });
        let stream = connected.await.map_err(io::Error::other)??;
        stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(stream)?;
        // See `provider::dial::tcp_until`.
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    async fn console(&self, host: &Host) -> Result<String> {
        let path = self.0.state.host(&host.id).console();
        match tokio::fs::read(&path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => {
                let text = other.doing(|| format!("cannot read {}", path.display()))?;
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
        }
    }

    async fn images(&self) -> Result<Vec<Image>> {
        self.block(|inner| images::list(&inner.state)).await
    }

    async fn remove_image(&self, image: &ImageId) -> Result<()> {
        let image = image.clone();
        self.block(move |inner| images::remove(&inner.state, &inner.ctl, &IdMap::of_this_user()?, &image))
            .await
    }

    fn oom_kills(&self, host: &Host) -> Option<u64> {
        Cgroups::find(&self.0.hash).ok()?.oom_kills(&host.id)
    }
}
