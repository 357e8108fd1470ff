//! `agent serve`: the composition root. Binds, is enrolled if need be, and then serves gRPC on the same socket.
//!
//! - [`listener`] with `handshakes`: from a socket to connections whose user is proved,
//! - [`tls`]: whom to trust before and after enrolment,
//! - [`admission`]: how many may call at once, and how long they may keep the agent waiting,
//! - [`authz`]: who may call what,
//! - [`host`] with `claims`, [`bundles`], [`runs`], [`history`]: one gRPC service each; [`metrics`] for who scrapes,
//! - [`disk`], `changes`: the record is read by few threads and watched once, however many ask,
//! - [`poweroff`]: a host that nobody needs any more stops itself.

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

/// The largest message that a controller may send, in bytes; bulk travels in chunks of 256 KiB.
pub const MAX_REQUEST: usize = 1 << 20;

/// Bundles kept on a host, the one in use among them.
const KEPT_BUNDLES: usize = 5;

/// How long a controller may take for its part of an enrolment.
const EXCHANGE: Duration = Duration::from_secs(15);

/// Controllers that may try at once: one that takes its time keeps no other waiting.
const EXCHANGES: Bounds = Bounds { all: 32, kept: 0, each: 8 };

/// How long connections may go on after the agent was told to stop.
const GRACE: Duration = Duration::from_secs(3);

/// What the agent is told from outside.
pub struct Config {
    /// Where it keeps things.
    pub paths: Paths,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Root of the file system that describes the machine: `/`.
    pub system: PathBuf,
    /// Who knows which instance this is and what it was told; nobody is asked if there is none.
    pub metadata: Option<Metadata>,
    /// The agent's own binary, which is started once more for each run.
    pub agent: PathBuf,
    /// Where it speaks to the provider.
    pub console: Console,
    /// How much the network may ask of it.
    pub limits: Limits,
    /// What stops the host: a program and its arguments.
    pub poweroff: Vec<OsString>,
}

/// Why the agent cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The host has no identity and could get none.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The bundles that are there cannot be read.
    #[error("the stored bundles cannot be used: {0}")]
    Bundles(#[from] crate::bundles::Error),
    /// The runs that are there cannot be read.
    #[error("the stored runs cannot be used: {0}")]
    Runs(#[from] run::Error),
    /// HTTP/2 failed as a whole.
    #[error("serving ended: {0}")]
    Transport(#[from] transport::Error),
}

/// A socket that is bound, and what to do on it first.
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
    /// Binds the socket; a host without identity waits for an enrol document before it does, and any host for the
    /// metadata service, if there is one.
    ///
    /// # Errors
    /// The identity cannot be used, or the address cannot be listened on.
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

    /// Which machine this is. Where a metadata service is configured, that must say so first.
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

    /// Where it listens.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`: first enrolment, if need be, then gRPC.
    ///
    /// # Errors
    /// The enrol document expired before a controller came, or the identity cannot be used.
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

/// Lets controllers try until one has enrolled this host or the document expires.
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
        // The identity is there before anything else is looked at.
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
        Found::Nothing | Found::Clone => Err(EnrolError::Grant("the identity just stored is not there")),
    }
}

/// Goes on until one of those who try has enrolled this host; the others' connections end then.
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
                    Err(_) => tracing::warn!("refused: too many controllers enrol this host at once"),
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

/// Waits until the document has expired, also if the clock is set meanwhile.
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
        // Streams that follow something never end by themselves; their readers attach again.
        () = async { stopping.notified().await; sleep(GRACE).await } => Ok(()),
    }
}

/// Every service of the agent. A service checks nothing that [`authz`] has checked.
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

/// The bundle of the apply under way must not be removed under Puppet's feet.
fn bundle_in_use(runs: &runs::Service) -> BTreeSet<Digest> {
    let active = runs.active_apply().ok().flatten().and_then(|run| run.request);
    let apply = active.and_then(|request| match request.what {
        Some(What::Apply(apply)) => apply.bundle.parse().ok(),
        _ => None,
    });
    apply.into_iter().collect()
}

/// HTTP/2 with every limit set by hand: what tonic leaves out it passes on as "none", which switches off
/// protections that hyper and h2 have by default.
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
