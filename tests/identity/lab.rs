//! A fleet, hosts to enrol, and the two kinds of connections to them.

use std::{
    fs, io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use agent::{
    enrol::{console::Console, metadata::Metadata},
    paths::Paths,
    serve::{Config, ServeError, Server, listener::Limits},
};
use controller::{
    client::{self, Outcome},
    error::Result,
    pki::{DEFAULT_LIFETIME, Fleet},
};
use proto::{
    identity::Role,
    pb::{StatusReply, StatusRequest, host_client::HostClient},
};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    sync::{Notify, oneshot},
    task::JoinHandle,
};
use tonic::transport::Channel;

pub(crate) const TID: &str = "0123456789abcdef";
pub(crate) const HOST: &str = "db-1";

/// A fleet with one admin.
pub(crate) struct Lab {
    pub(crate) dir: TempDir,
    pub(crate) fleet: Fleet,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let now = SystemTime::now();
        let fleet = Fleet::create(&dir.path().join("fleet"), "lab", now).expect("a fleet");
        fleet.issue_user("ada", Role::Admin, DEFAULT_LIFETIME, now).expect("an admin");
        Self { dir, fleet: fleet.with_user("ada") }
    }

    /// The same fleet as seen by another user.
    pub(crate) fn speaking_as(&self, role: Role) -> Fleet {
        self.fleet.issue_user(role.name(), role, DEFAULT_LIFETIME, SystemTime::now()).expect("a user");
        self.fleet.clone().with_user(role.name())
    }

    pub(crate) fn document(&self) -> Vec<u8> {
        self.fleet.enrol_document(TID, SystemTime::now()).expect("a document").to_vec()
    }

    /// One of the fleet's CAs, for issuing certificates that the fleet itself never issues.
    pub(crate) fn issuer(&self, ca: &str) -> Issuer<'static, KeyPair> {
        let read = |extension: &str| {
            let path = self.dir.path().join("fleet").join(format!("{ca}.{extension}"));
            fs::read_to_string(path).expect("a file of the fleet")
        };
        let key = KeyPair::from_pem(&read("key")).expect("a key");
        Issuer::from_ca_cert_pem(&read("crt"), key).expect("a CA")
    }

    /// Parameters of an operator's certificate, for tests to break.
    pub(crate) fn user_params(&self) -> CertificateParams {
        let now = SystemTime::now();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, Role::Admin.organisation());
        let uri = proto::identity::names::user(self.fleet.id(), "eve");
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("ASCII"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        params.not_before = (now - Duration::from_secs(60)).into();
        params.not_after = (now + Duration::from_secs(3600)).into();
        params
    }

    /// Parameters of a host's certificate, for tests to break.
    pub(crate) fn host_params(&self) -> CertificateParams {
        let mut params = self.user_params();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let name = proto::identity::names::host(HOST, self.fleet.id());
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().expect("ASCII"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params
    }
}

/// A certificate and its key.
pub(crate) type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Signs `params` for a new key; `above` is sent along.
pub(crate) fn sign(
    params: &CertificateParams,
    issuer: &Issuer<'static, KeyPair>,
    above: &CertificateDer<'static>,
) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let leaf = params.signed_by(&key, issuer).expect("a certificate");
    (vec![leaf.der().clone(), above.clone()], key.into())
}

/// Console output of a host.
#[derive(Clone, Default)]
pub(crate) struct Tape {
    text: Arc<Mutex<String>>,
    grown: Arc<Notify>,
}

impl Tape {
    pub(crate) fn text(&self) -> String {
        self.text.lock().expect("no panic").clone()
    }

    /// Waits until the output contains `words`.
    pub(crate) async fn wait_for(&self, words: &str) {
        let waiting = async {
            loop {
                let grown = self.grown.notified();
                if self.text().contains(words) {
                    return;
                }
                grown.await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        assert!(waited.is_ok(), "{words:?} is not on the console: {}", self.text());
    }

    /// The latest digest on the console.
    pub(crate) fn digest(&self) -> String {
        let text = self.text();
        let (_, digest) = text.rsplit_once("spki=").expect("an announcement");
        digest.split_whitespace().next().expect("a digest").to_owned()
    }
}

impl io::Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.lock().expect("no panic").push_str(&String::from_utf8_lossy(bytes));
        self.grown.notify_waiters();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A machine that can run an agent.
pub(crate) struct Machine {
    dir: TempDir,
    pub(crate) console: Tape,
    pub(crate) limits: Limits,
    pub(crate) metadata: Option<Metadata>,
}

impl Machine {
    /// A machine without an enrol document.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("system/etc")).expect("a directory");
        let machine = Self { dir, console: Tape::default(), limits: Limits::default(), metadata: None };
        machine.set_machine_id("one");
        machine
    }

    /// A machine with this enrol document.
    pub(crate) fn with(document: &[u8]) -> Self {
        let machine = Self::new();
        machine.leave(document);
        machine
    }

    pub(crate) fn set_machine_id(&self, id: &str) {
        fs::write(self.dir.path().join("system/etc/machine-id"), id).expect("written");
    }

    pub(crate) fn paths(&self) -> Paths {
        Paths::new(self.dir.path().join("magpie"))
    }

    /// Writes an enrol document as providers do.
    pub(crate) fn leave(&self, document: &[u8]) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.paths().enrol_document();
        fs::create_dir_all(self.paths().root()).expect("a directory");
        let draft = path.with_extension("draft");
        fs::write(&draft, document).expect("written");
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).expect("closed to others");
        fs::rename(&draft, &path).expect("renamed");
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            // No run is started here.
            agent: "/nonexistent".into(),
            paths: self.paths(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            system: self.dir.path().join("system"),
            console: Console::new(self.console.clone()),
            limits: self.limits,
            metadata: self.metadata.clone(),
            // No machine is stopped here.
            poweroff: Vec::new(),
        }
    }

    /// Starts the agent.
    pub(crate) async fn start(&self) -> Running {
        let server = Server::bind(self.config()).await.expect("bound");
        let address = server.address().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        Running { address, stop, task: tokio::spawn(server.serve(shutdown)) }
    }

    /// Starts the agent and enrols it.
    pub(crate) async fn enrolled(lab: &Lab) -> (Self, Running) {
        Self::new().enrol(lab).await
    }

    /// Starts the agent with the fleet's enrol document and enrols it.
    pub(crate) async fn enrol(self, lab: &Lab) -> (Self, Running) {
        self.leave(&lab.document());
        let running = self.start().await;
        let outcome = running.enrol(&lab.fleet).await.expect("it can be enrolled");
        assert_eq!(outcome, Outcome::Committed);
        self.console.wait_for("done").await;
        (self, running)
    }
}

/// A running agent.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::result::Result<(), ServeError>>,
}

impl Running {
    pub(crate) async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the port is open")
    }

    pub(crate) async fn enrol(&self, fleet: &Fleet) -> Result<Outcome> {
        client::enrol(self.dial().await, fleet, TID, HOST).await
    }

    pub(crate) async fn connect(&self, fleet: &Fleet) -> Result<Channel> {
        client::connect(self.dial().await, fleet, HOST).await
    }

    pub(crate) async fn status(&self, fleet: &Fleet) -> Result<StatusReply> {
        let mut client = HostClient::new(self.connect(fleet).await?);
        let reply = client.status(StatusRequest {}).await;
        reply.map(tonic::Response::into_inner).map_err(|status| client::status::error(HOST, &status))
    }

    /// Ends the agent like a crash.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.expect_err("killed").is_cancelled());
    }

    /// Stops the agent as systemd does.
    pub(crate) async fn stop(self) -> std::result::Result<(), ServeError> {
        drop(self.stop);
        self.task.await.expect("no panic")
    }

    /// Waits until the agent ends without being stopped.
    pub(crate) async fn ended(self) -> std::result::Result<(), ServeError> {
        let _stop = self.stop;
        self.task.await.expect("no panic")
    }
}
