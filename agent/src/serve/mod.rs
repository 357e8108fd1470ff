//! `agent serve`: the composition root. Binds the socket, waits for enrolment if needed, then serves gRPC.
//!
//! - [`listener`] with `handshakes`: connections with a verified user,
//! - [`tls`]: which certificates to trust, before and after enrolment,
//! - [`admission`]: limits on calls and on waiting times,
//! - [`authz`]: which role may call what,
//! - [`host`] with `claims`, [`bundles`], [`runs`], [`history`]: one gRPC service each; [`metrics`] for monitoring
//!   systems,
//! - [`disk`], `changes`: few threads and one watch for all readers of the record,
//! - [`poweroff`]: stops a host that is no longer needed.

pub mod admission;
pub mod authz;
pub mod bundles;
mod changes;
mod claims;
pub mod disk;
mod handshakes;
pub mod history;
pub mod host;
pub mod listener;
pub mod metrics;
pub mod poweroff;
pub mod runs;
pub mod shares;
pub mod tls;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    ffi::OsString,
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use proto::{
    MAX_STDIN_BYTES,
    bundle::Digest,
    identity::document::{Document, DocumentError},
    pb::{
        history_server::HistoryServer, host_server::HostServer, runs_server::RunsServer, start_request::What,
    },
};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{service::Routes, transport};

use self::{
    admission::Admission,
    disk::Disk,
    listener::{Connection, Limits},
    poweroff::{Pace, Watch},
    shares::{Bounds, Places},
};
use crate::{
    bundles::Store,
    claim,
    enrol::{
        EnrolError,
        console::Console,
        document,
        exchange::Enrolment,
        identity::{Found, Identity},
        machine::Binding,
        metadata::Metadata,
        renewal::Shown,
    },
    paths::Paths,
    run::{self, Launcher},
};

/// Maximum size of a message from a controller, in bytes; large data is sent in chunks of 256 KiB.
pub const MAX_REQUEST: usize = 1 << 20;

/// Bundles kept on a host, including the one in use.
const KEPT_BUNDLES: usize = 5;

/// Timeout for a controller's part of an enrolment.
const EXCHANGE: Duration = Duration::from_secs(15);

/// Concurrent enrolment attempts: a slow controller must not block others.
const EXCHANGES: Bounds = Bounds { all: 32, kept: 0, each: 8 };

/// How long connections may continue after the agent begins to stop.
const GRACE: Duration = Duration::from_secs(3);

/// Settings of the agent.
pub struct Config {
    /// The agent's data directory.
    pub paths: Paths,
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Root of the file system that describes the machine: `/`.
    pub system: PathBuf,
    /// The instance metadata service; `None`: use none.
    pub metadata: Option<Metadata>,
    /// The agent's own binary, which is executed for each run.
    pub agent: PathBuf,
    /// The console, for messages to the provider.
    pub console: Console,
    /// Limits on network clients.
    pub limits: Limits,
    /// The command that stops the host: a program and its arguments.
    pub poweroff: Vec<OsString>,
}

/// Why the agent cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address to listen on.
        address: SocketAddr,
        /// The error of the socket.
        source: io::Error,
    },
    /// The host has no identity and enrolment failed.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The stored bundles cannot be read.
    #[error("cannot use the stored bundles: {0}")]
    Bundles(#[from] crate::bundles::Error),
    /// The stored runs cannot be read.
    #[error("cannot use the stored runs: {0}")]
    Runs(#[from] run::Error),
    /// The HTTP/2 server failed.
    #[error("the HTTP/2 server failed: {0}")]
    Transport(#[from] transport::Error),
}

/// A bound socket, and whether enrolment comes first.
pub struct Server {
    config: Config,
    listener: TcpListener,
    phase: Phase,
}

enum Phase {
    Enrolling(Arc<Enrolment>),
    Enrolled(Box<Identity>),
}

impl Server {
    /// Binds the socket. A host without an identity first waits for an enrol document; a host with a metadata service
    /// first waits for that service.
    ///
    /// # Errors
    /// If the identity cannot be used, or the address cannot be bound.
    pub async fn bind(config: Config) -> Result<Self, ServeError> {
        let machine = Self::machine(&config).await;
        let phase = match Identity::load(&config.paths, &machine, SystemTime::now())? {
            Found::Identity(identity) => Phase::Enrolled(Box::new(identity)),
            Found::Nothing => Self::prepare(&config, machine).await?,
            Found::Clone => {
                config
                    .console
                    .say("MAGPIE-ENROL v1 error: this disk was cloned; the identity is in quarantine");
                Self::prepare(&config, machine).await?
            }
        };
        let address = config.listen;
        let listener =
            TcpListener::bind(address).await.map_err(|source| ServeError::Bind { address, source })?;
        Ok(Self { config, listener, phase })
    }

    /// Identifies this machine. Waits for the metadata service, if one is configured.
    async fn machine(config: &Config) -> Binding {
        let machine = Binding::read(&config.system);
        match &config.metadata {
            Some(metadata) => machine.of_instance(metadata.instance_id(&mut config.console.changes()).await),
            None => machine,
        }
    }

    async fn prepare(config: &Config, machine: Binding) -> Result<Phase, EnrolError> {
        let document = document::wait(&config.paths, config.metadata.as_ref(), &config.console).await?;
        let enrolment = Enrolment::prepare(&config.paths, config.system.clone(), machine, document)?;
        Ok(Phase::Enrolling(Arc::new(enrolment)))
    }

    /// The address that the socket is bound to.
    ///
    /// # Errors
    /// If the kernel does not return the address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`: enrolment first if needed, then gRPC.
    ///
    /// # Errors
    /// If the enrol document expires before a controller comes, or the identity cannot be used.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self { config, listener, phase } = self;
        let mut shutdown = pin!(shutdown);
        let identity = match phase {
            Phase::Enrolled(identity) => *identity,
            Phase::Enrolling(enrolment) => tokio::select! {
                identity = enrol(&config, &listener, &enrolment) => identity?,
                () = &mut shutdown => return Ok(()),
            },
        };
        tracing::info!(host = identity.host_id, fleet = identity.fleet_id, "serving");
        serve(&config, &listener, &identity, shutdown).await
    }
}

/// Lets controllers try until one enrols this host or the document expires.
async fn enrol(
    config: &Config,
    listener: &TcpListener,
    enrolment: &Arc<Enrolment>,
) -> Result<Identity, EnrolError> {
    let document = enrolment.document();
    let tls = Arc::new(tls::enrolling(enrolment.candidate(), document.user_ca_pin)?);
    let (ready, connections) = mpsc::channel(1);
    let announcement = enrolment.announcement();
    tokio::select! {
        // Check for the identity before anything else.
        biased;
        () = exchanges(&config.console, enrolment, connections) => (),
        never = listener::accept(listener, tls, config.limits, ready) => match never {},
        never = config.console.repeat(&announcement) => match never {},
        error = expiry(document) => return Err(error.into()),
    }
    match Identity::load(&config.paths, enrolment.machine(), SystemTime::now())? {
        Found::Identity(identity) => {
            let Identity { host_id, fleet_id, .. } = &identity;
            config.console.say(&format!("MAGPIE-ENROL v1 done host={host_id} fleet={fleet_id}"));
            Ok(identity)
        }
        Found::Nothing | Found::Clone => Err(EnrolError::Grant("the stored identity is missing")),
    }
}

/// Runs until one of the controllers has enrolled this host; then drops the other connections.
async fn exchanges(
    console: &Console,
    enrolment: &Arc<Enrolment>,
    mut connections: mpsc::Receiver<Connection>,
) {
    let places = Places::new(EXCHANGES);
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            Some(connection) = connections.recv() => {
                let enrolment = Arc::clone(enrolment);
                match places.take(&connection.certificate().user) {
                    Ok(place) => {
                        under_way.spawn(async move {
                            let _place = place;
                            exchange(&enrolment, connection).await
                        });
                    }
                    Err(_) => tracing::warn!("refused: too many controllers are enrolling this host"),
                }
            }
            Some(ended) = under_way.join_next() => match ended {
                Ok(Ok(())) => return,
                Ok(Err(error)) => console.say(&format!("MAGPIE-ENROL v1 error: {error}")),
                Err(panic) => console.say(&format!("MAGPIE-ENROL v1 error: {panic}")),
            },
            else => return,
        }
    }
}

/// Waits until the document has expired, even if the clock is changed meanwhile.
async fn expiry(document: &Document) -> DocumentError {
    loop {
        let now = SystemTime::now();
        if let Err(error) = document.check(now) {
            return error;
        }
        let left = document.expires.duration_since(now).unwrap_or_default();
        sleep(left.min(Duration::from_secs(30))).await;
    }
}

async fn exchange(enrolment: &Enrolment, mut connection: Connection) -> Result<(), EnrolError> {
    let fleet_id = connection.certificate().fleet_id.clone();
    let exchange = enrolment.exchange(connection.stream(), &fleet_id);
    timeout(EXCHANGE, exchange).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn serve(
    config: &Config,
    listener: &TcpListener,
    identity: &Identity,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let shown = Arc::new(Shown::new(identity, &config.paths)?);
    let tls = Arc::new(tls::enrolled(identity, Arc::clone(&shown))?);
    let (ready, connections) = mpsc::channel(1);
    let stopping = Notify::new();
    let signal = async {
        shutdown.await;
        stopping.notify_one();
    };
    let paths = &config.paths;
    let runs = runs::Service::new(paths.clone(), Launcher::detect(config.agent.clone()))?;
    let claims = Arc::new(claim::Store::new(paths));
    let watch = Watch {
        claims: Arc::clone(&claims),
        runs: runs.clone(),
        command: config.poweroff.clone(),
        pace: Pace::default(),
    };
    let host = host::Service::new(identity, paths, &config.system, runs.clone(), claims, shown);
    let serving = http2()
        .layer(Admission::new(config.limits.calls))
        .layer(authz::Authorise)
        .add_routes(routes(paths, host, runs)?)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections).map(Ok::<_, Infallible>), signal);
    tokio::select! {
        served = serving => Ok(served?),
        never = listener::accept(listener, tls, config.limits, ready) => match never {},
        never = watch.watch(&config.console) => match never {},
        // Streams that follow something never end on their own; their readers attach again.
        () = async { stopping.notified().await; sleep(GRACE).await } => Ok(()),
    }
}

/// All services of the agent. Services do not repeat the checks of [`authz`].
fn routes(paths: &Paths, host: host::Service, runs: runs::Service) -> Result<Routes, ServeError> {
    let (store, applies) = (Arc::new(Store::open(paths.clone(), KEPT_BUNDLES)?), runs.clone());
    let bundles = bundles::Service::new(store, move || bundle_in_use(&applies));
    let disk = Disk::default();
    let history = history::Service::new(paths, disk.clone());
    let mut routes = Routes::new(HostServer::new(host).max_decoding_message_size(MAX_REQUEST))
        .add_service(bundles.into_server())
        .add_service(RunsServer::new(runs).max_decoding_message_size(MAX_REQUEST + MAX_STDIN_BYTES))
        .add_service(HistoryServer::new(history).max_decoding_message_size(MAX_REQUEST));
    let router = routes.axum_router_mut();
    *router = std::mem::take(router).route_service(metrics::PATH, metrics::Metrics::new(paths, disk));
    Ok(routes)
}

/// The bundle of the running apply, which must not be removed while Puppet uses it.
fn bundle_in_use(runs: &runs::Service) -> BTreeSet<Digest> {
    let active = runs.active_apply().ok().flatten().and_then(|run| run.request);
    let apply = active.and_then(|request| match request.what {
        Some(What::Apply(apply)) => apply.bundle.parse().ok(),
        _ => None,
    });
    apply.into_iter().collect()
}

/// HTTP/2 with every limit set explicitly: tonic passes an unset limit on as "none", which disables the default
/// protections of hyper and h2.
fn http2() -> transport::Server {
    transport::Server::builder()
        .max_concurrent_streams(32)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_frame_size(16 << 10)
        .http2_max_header_list_size(16 << 10)
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_max_local_error_reset_streams(Some(128))
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .http2_adaptive_window(Some(false))
        .accept_http1(false)
}
