//! Magpie's push: the steps of `ctl apply` before it starts a run, with an `agent serve` process.

use std::{
    fs::{self, DirBuilder},
    io::Write,
    net::{SocketAddr, TcpListener},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use agent::paths::Paths;
use controller::{
    bundle::{BundleConfig, push::push, source::from_working_tree},
    client,
    pki::{self, DEFAULT_LIFETIME, Fleet},
};
use proto::identity::Role;
use tokio::{net::TcpStream, runtime::Runtime, time::sleep};

use crate::{Pusher, Result};

const USER: &str = "bench";
const HOST: &str = "bench-1";

/// Timeout for an agent to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A fleet of one host, with a new agent process for each destination.
pub(crate) struct Magpie {
    runtime: Runtime,
    fleet: Fleet,
    agent: Option<Agent>,
    newest: String,
    phases: Vec<Phases>,
}

/// Time of the parts of one push, and the data sent.
pub(crate) struct Phases {
    /// Time for listing and hashing the tree.
    pub(crate) make: Duration,
    /// Time for TCP and TLS.
    pub(crate) connect: Duration,
    /// Time for offer, upload and storing.
    pub(crate) push: Duration,
    /// Number of blobs sent.
    pub(crate) blobs: usize,
    /// Number of bytes sent.
    pub(crate) bytes: u64,
}

impl Magpie {
    /// Creates a fleet below `scratch`.
    pub(crate) fn new(scratch: &Path) -> Result<Self> {
        // As many threads as `ctl` has.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let now = SystemTime::now();
        let fleet = Fleet::create(&scratch.join("fleet"), USER, now)?;
        fleet.issue_user(USER, Role::Admin, DEFAULT_LIFETIME, now)?;
        Ok(Self {
            runtime,
            fleet: fleet.with_user(USER),
            agent: None,
            newest: String::new(),
            phases: Vec::new(),
        })
    }

    fn agent(&self) -> &Agent {
        self.agent.as_ref().expect("a destination is made before anything is pushed to it")
    }
}

impl Pusher for Magpie {
    fn name(&self) -> &'static str {
        "magpie"
    }

    fn fresh(&mut self, scratch: &Path) -> Result<()> {
        self.agent = None;
        let tid = pki::new_tid()?;
        let agent =
            Agent::start(scratch.join("agent"), &self.fleet.enrol_document(&tid, SystemTime::now())?)?;
        self.runtime.block_on(async {
            let stream = agent.listening().await?;
            client::enrol(stream, &self.fleet, &tid, HOST).await?;
            // The first connection enrols the host.
            client::connect(agent.dial().await?, &self.fleet, HOST).await?;
            Ok::<_, Box<dyn std::error::Error>>(())
        })?;
        self.agent = Some(agent);
        Ok(())
    }

    /// Hashes the tree, connects with mutual TLS, offers and uploads: the time includes all of it.
    fn push(&mut self, tree: &Path) -> Result<()> {
        let start = Instant::now();
        let bundle = from_working_tree(tree, &BundleConfig::new("."), SystemTime::now())?;
        let made = start.elapsed();
        let (connected, pushed) = self.runtime.block_on(async {
            let channel = client::connect(self.agent().dial().await?, &self.fleet, HOST).await?;
            let connected = start.elapsed();
            Ok::<_, Box<dyn std::error::Error>>((connected, push(channel, &bundle).await?))
        })?;
        self.phases.push(Phases {
            make: made,
            connect: connected - made,
            push: start.elapsed() - connected,
            blobs: pushed.blobs_sent,
            bytes: pushed.sent_bytes,
        });
        self.newest = bundle.digest().to_string();
        Ok(())
    }

    fn destination(&self) -> PathBuf {
        self.agent().paths.bundle_tree(&self.newest)
    }

    fn phases(&self) -> &[Phases] {
        &self.phases
    }
}

/// An `agent serve` process; ended when dropped.
struct Agent {
    child: Child,
    address: SocketAddr,
    paths: Paths,
}

impl Agent {
    /// Starts an agent on a free port of 127.0.0.1, with its files below `root`.
    fn start(root: PathBuf, document: &[u8]) -> Result<Self> {
        let paths = Paths::new(root);
        DirBuilder::new().mode(0o700).create(paths.root())?;
        let enrol = paths.enrol_document();
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(enrol)?.write_all(document)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = Command::new(tests::binary("agent"))
            .arg("serve")
            .arg("--root")
            .arg(paths.root())
            .args(["--listen", &address.to_string()])
            .stdin(Stdio::null())
            .stderr(fs::File::create(paths.root().join("log"))?)
            .spawn()?;
        Ok(Self { child, address, paths })
    }

    async fn dial(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await?;
        // Like every connection of `ctl`.
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Connects for the first time, as soon as the agent listens.
    async fn listening(&self) -> Result<TcpStream> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.dial().await {
                Ok(stream) => return Ok(stream),
                Err(error) if Instant::now() > deadline => {
                    let log = fs::read_to_string(self.paths.root().join("log"))?;
                    return Err(format!("the agent does not listen: {error}\n{log}").into());
                }
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // The agent may already have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
