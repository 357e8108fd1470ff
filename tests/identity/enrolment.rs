//! `enrol/1` from end to end, and all cases in which it must fail.

use std::{
    fs,
    future::{Future, poll_fn},
    os::unix::fs::PermissionsExt,
    pin::pin,
    task::Poll,
    time::{Duration, SystemTime},
};

use agent::serve::{ServeError, Server};
use controller::{
    client::{self, Outcome},
    error::Result,
};
use proto::{
    identity::{
        certificate::KeyDigest,
        document::Document,
        enrol::{NONCE_LEN, Session, exporter},
        tls,
    },
    pb::{EnrolCommitted, EnrolGrant, EnrolHello, Sealed},
};
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use crate::{
    lab::{HOST, Lab, Machine, Running, TID, sign},
    raw,
};

#[tokio::test]
async fn a_host_is_enrolled_and_stays_so() {
    let lab = Lab::new();
    let (machine, running) = Machine::enrolled(&lab).await;
    assert!(machine.console.text().contains(&format!("MAGPIE-ENROL v1 tid={TID} spki=sha256:")));
    let status = running.status(&lab.fleet).await.expect("it answers");
    assert_eq!((status.host_id.as_str(), status.fleet_id.as_str()), (HOST, lab.fleet.id()));
    assert_eq!(running.enrol(&lab.fleet).await.expect("no harm"), Outcome::AlreadyEnrolled);

    let paths = machine.paths();
    assert!(!paths.enrol_document().exists(), "the token is gone");
    assert!(!paths.state_new().exists());
    let mode = |path: &std::path::Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&paths.state()), 0o700);
    for entry in fs::read_dir(paths.state()).expect("a directory") {
        assert_eq!(mode(&entry.expect("an entry").path()), 0o600);
    }

    running.stop().await.expect("it stops in order");
    let running = machine.start().await;
    assert!(running.status(&lab.fleet).await.is_ok(), "the identity outlives the agent");
}

#[tokio::test]
async fn no_port_is_open_before_a_good_document() {
    let lab = Lab::new();
    let machine = Machine::new();
    let mut bind = pin!(Server::bind(machine.config()));
    let mut is_waiting = async || poll_fn(|cx| Poll::Ready(bind.as_mut().poll(cx).is_pending())).await;
    assert!(is_waiting().await);
    machine.leave(b"{");
    tokio::select! {
        _ = &mut bind => panic!("bound"),
        () = machine.console.wait_for("malformed") => (),
    }
    let hour = Duration::from_secs(3600);
    machine.leave(&lab.fleet.enrol_document(TID, SystemTime::now() - hour).expect("a document"));
    tokio::select! {
        _ = &mut bind => panic!("bound"),
        () = machine.console.wait_for("expired") => (),
    }
    machine.leave(&lab.document());
    fs::set_permissions(machine.paths().enrol_document(), fs::Permissions::from_mode(0o644)).expect("opened");
    tokio::select! {
        _ = &mut bind => panic!("bound"),
        () = machine.console.wait_for("open to others") => (),
    }
    machine.leave(&lab.document());
    bind.await.expect("bound");
}

#[tokio::test]
async fn enrolment_ends_with_the_document() {
    let lab = Lab::new();
    let mut document = Document::from_json(&lab.document()).expect("a document");
    document.expires = SystemTime::now() + Duration::from_secs(2);
    let machine = Machine::with(&document.to_json().expect("JSON"));
    let running = machine.start().await;
    let ended = running.ended().await;
    assert!(
        matches!(&ended, Err(ServeError::Enrol(error)) if error.to_string().contains("expired")),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_clone_is_quarantined() {
    let lab = Lab::new();
    let (machine, running) = Machine::enrolled(&lab).await;
    running.stop().await.expect("it stops");
    machine.set_machine_id("two");
    let mut bind = pin!(Server::bind(machine.config()));
    tokio::select! {
        _ = &mut bind => panic!("it must not speak"),
        () = machine.console.wait_for("cloned") => (),
    }
    assert!(!machine.paths().state().exists());
    let kept = fs::read_dir(machine.paths().quarantine()).expect("a directory").count();
    assert_eq!(kept, 1);
    machine.leave(&lab.document());
    bind.await.expect("a document makes it a new host");
}

#[tokio::test]
async fn the_key_survives_a_crash_before_the_commit() {
    let lab = Lab::new();
    let machine = Machine::with(&lab.document());
    let running = machine.start().await;
    machine.console.wait_for("spki=").await;
    let digest = machine.console.digest();
    running.kill().await;
    // As if the agent had been killed before it wrote the rest.
    fs::write(machine.paths().state_new().join("host.der"), b"half").expect("written");
    let running = machine.start().await;
    assert!(running.enrol(&lab.fleet).await.is_ok());
    assert_eq!(machine.console.digest(), digest);
    machine.console.wait_for("done").await;
    assert!(running.status(&lab.fleet).await.is_ok());
}

/// The controller's side, to be manipulated.
struct Controller<'a> {
    lab: &'a Lab,
    stream: TlsStream<TcpStream>,
    session: Session,
    agent_key: KeyDigest,
    sealed: Sealed,
    hello: EnrolHello,
}

impl<'a> Controller<'a> {
    async fn dial(lab: &'a Lab, running: &Running) -> Self {
        let pair = sign(&lab.user_params(), &lab.issuer("user-ca"), lab.fleet.user_ca());
        let stream = raw::client(running.address, Some(pair), Some(tls::ALPN_ENROL)).await;
        let mut stream = stream.expect("accepted");
        let connection = stream.get_ref().1;
        let token = lab.fleet.token(TID).expect("a token");
        let session = Session::new(TID, &token, exporter(connection, TID).expect("keying material"));
        let leaf = &connection.peer_certificates().expect("a certificate")[0];
        let agent_key = KeyDigest::of_certificate(leaf).expect("a key");
        let sealed = raw::receive(&mut stream).await.expect("M1");
        let hello = session.open_hello(&sealed, &agent_key).expect("M1 holds");
        Self { lab, stream, session, agent_key, sealed, hello }
    }

    fn grant(&self) -> EnrolGrant {
        self.grant_at(SystemTime::now())
    }

    fn grant_at(&self, now: SystemTime) -> EnrolGrant {
        let fleet = &self.lab.fleet;
        let chain = fleet.sign_host(&self.hello.csr, &self.agent_key, HOST, now).expect("signed");
        EnrolGrant {
            nonce: self.hello.nonce.clone(),
            host_id: HOST.to_owned(),
            fleet_id: fleet.id().to_owned(),
            certificates: chain.certificates.iter().map(|certificate| certificate.to_vec()).collect(),
            user_ca: fleet.user_ca().to_vec(),
            time_unix_ms: self.hello.time_unix_ms,
        }
    }

    /// Whether the agent accepts this grant.
    async fn offer(mut self, grant: &EnrolGrant) -> bool {
        let sealed = self.session.seal_grant(grant, &self.sealed);
        self.send(&sealed).await
    }

    async fn send(&mut self, sealed: &Sealed) -> bool {
        raw::send(&mut self.stream, sealed).await;
        raw::receive::<EnrolCommitted>(&mut self.stream).await.is_ok()
    }
}

/// Enrols a host with a certificate issued at this time.
pub(crate) async fn enrolled_at(lab: &Lab, running: &Running, now: SystemTime) {
    let controller = Controller::dial(lab, running).await;
    let grant = controller.grant_at(now);
    assert!(controller.offer(&grant).await, "it is taken");
}

#[tokio::test]
async fn the_agent_refuses_every_grant_but_the_right_one() {
    let (lab, other) = (Lab::new(), Lab::new());
    let machine = Machine::with(&lab.document());
    let running = machine.start().await;
    let foreign_key = KeyPair::generate().expect("a key");
    let foreign_csr = CertificateParams::default().serialize_request(&foreign_key).expect("a request");
    let foreign_digest = KeyDigest::of(&foreign_key.subject_public_key_info());
    let both_usages = {
        let mut params = lab.host_params();
        params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
        sign(&params, &lab.issuer("host-ca"), lab.fleet.host_ca()).0[0].to_vec()
    };
    type Change<'a> = Box<dyn Fn(&mut EnrolGrant) + 'a>;
    let changes: Vec<(&str, Change<'_>)> = vec![
        ("nonce", Box::new(|grant| grant.nonce[0] ^= 1)),
        ("host", Box::new(|grant| grant.host_id = "db-2".to_owned())),
        ("host that is no name", Box::new(|grant| grant.host_id = "../db".to_owned())),
        ("fleet", Box::new(|grant| grant.fleet_id = other.fleet.id().to_owned())),
        ("users' CA", Box::new(|grant| grant.user_ca = other.fleet.user_ca().to_vec())),
        ("host CA", Box::new(|grant| grant.certificates[1] = other.fleet.host_ca().to_vec())),
        ("no host CA", Box::new(|grant| grant.certificates.truncate(1))),
        ("no certificate", Box::new(|grant| grant.certificates.clear())),
        ("garbage", Box::new(|grant| grant.certificates[0] = vec![0x30, 0])),
        ("both usages", Box::new(|grant| grant.certificates[0].clone_from(&both_usages))),
        (
            "another key",
            Box::new(|grant| {
                let chain = lab.fleet.sign_host(foreign_csr.der(), &foreign_digest, HOST, SystemTime::now());
                grant.certificates[0] = chain.expect("signed").certificates[0].to_vec();
            }),
        ),
    ];
    for (what, change) in changes {
        let controller = Controller::dial(&lab, &running).await;
        let mut grant = controller.grant();
        change(&mut grant);
        assert!(!controller.offer(&grant).await, "{what}");
        assert!(!machine.paths().state().exists(), "{what}");
    }
    let controller = Controller::dial(&lab, &running).await;
    let grant = controller.grant();
    assert!(controller.offer(&grant).await, "after all that the right one is taken");
}

#[tokio::test]
async fn a_flipped_bit_in_any_field_of_the_grant_is_noticed() {
    let lab = Lab::new();
    let machine = Machine::with(&lab.document());
    let running = machine.start().await;
    // The message's fields are contiguous, so every 64th byte hits each of them.
    let length = {
        let controller = Controller::dial(&lab, &running).await;
        controller.session.seal_grant(&controller.grant(), &controller.sealed).message.len()
    };
    for at in (0..length - 16).step_by(64) {
        let mut controller = Controller::dial(&lab, &running).await;
        let mut sealed = controller.session.seal_grant(&controller.grant(), &controller.sealed);
        sealed.message[at] ^= 1 << (at % 8);
        assert!(!controller.send(&sealed).await, "byte {at}");
    }
    let mut controller = Controller::dial(&lab, &running).await;
    let mut sealed = controller.session.seal_grant(&controller.grant(), &controller.sealed);
    sealed.mac[31] ^= 1;
    assert!(!controller.send(&sealed).await, "the code itself");
    assert!(running.enrol(&lab.fleet).await.is_ok());
}

#[tokio::test]
async fn the_next_controller_finishes_what_one_began() {
    let lab = Lab::new();
    let machine = Machine::with(&lab.document());
    let running = machine.start().await;
    // One controller dies before it sends its grant, the next right after.
    drop(Controller::dial(&lab, &running).await);
    let mut controller = Controller::dial(&lab, &running).await;
    let sealed = controller.session.seal_grant(&controller.grant(), &controller.sealed);
    raw::send(&mut controller.stream, &sealed).await;
    drop(controller);
    machine.console.wait_for("done").await;
    assert_eq!(running.enrol(&lab.fleet).await.expect("no harm"), Outcome::AlreadyEnrolled);
    assert!(running.status(&lab.fleet).await.is_ok());
    running.kill().await;
    assert!(machine.start().await.status(&lab.fleet).await.is_ok(), "also if the agent dies as well");
}

#[tokio::test]
async fn one_that_takes_its_time_keeps_no_other_waiting() {
    let lab = Lab::new();
    let machine = Machine::with(&lab.document());
    let running = machine.start().await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(Controller::dial(&lab, &running).await);
    }
    let enrolled = timeout(Duration::from_secs(5), running.enrol(&lab.fleet)).await;
    assert_eq!(enrolled.expect("at once").expect("enrolled"), Outcome::Committed);
    machine.console.wait_for("done").await;
    let late = held.pop().expect("one of them");
    let grant = late.grant();
    assert!(!late.offer(&grant).await, "who comes late changes nothing");
    assert!(running.status(&lab.fleet).await.is_ok());
}

#[tokio::test]
async fn whoever_lacks_the_token_is_not_enrolled() {
    let lab = Lab::new();
    let wrong = lab.fleet.enrol_document("another-tid", SystemTime::now()).expect("a document");
    let machine = Machine::with(&wrong);
    let running = machine.start().await;
    let error = running.enrol(&lab.fleet).await.expect_err("refused");
    assert!(error.to_string().contains("could not prove that it belongs to enrolment"), "{error}");
    machine.console.wait_for("spki=").await;
    assert!(error.hints()[0].contains(&machine.console.digest()), "{:?}", error.hints());
    assert!(!machine.paths().state().exists());
}

#[tokio::test]
async fn a_controller_of_another_fleet_cannot_enrol() {
    let (lab, other) = (Lab::new(), Lab::new());
    let machine = Machine::with(&lab.document());
    let running = machine.start().await;
    let error = running.enrol(&other.fleet).await.expect_err("refused");
    assert!(error.to_string().contains("belongs to another fleet"), "{error}");
}

/// Even with a certificate that the agent accepts, a man in the middle has two connections.
#[tokio::test]
async fn a_relay_gets_nowhere() {
    let lab = Lab::new();
    let machine = Machine::with(&lab.document());
    let running = machine.start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let relay = async {
        let (socket, _) = listener.accept().await.expect("accepted");
        let mut victim = raw::server(socket, raw::self_signed(), tls::ALPN_ENROL).await.expect("accepted");
        let pair = sign(&lab.user_params(), &lab.issuer("user-ca"), lab.fleet.user_ca());
        let agent = raw::client(running.address, Some(pair), Some(tls::ALPN_ENROL)).await;
        let _ = copy_bidirectional(&mut victim, &mut agent.expect("accepted")).await;
    };
    let controller = async {
        let stream = TcpStream::connect(address).await.expect("connected");
        client::enrol(stream, &lab.fleet, TID, HOST).await
    };
    let (outcome, ()) = tokio::join!(controller, relay);
    let error = outcome.expect_err("refused");
    assert!(error.to_string().contains("could not prove"), "{error}");
    assert!(!machine.paths().state().exists());
}

/// Runs the real controller against an agent that sends these messages M1 and M3.
async fn against(
    lab: &Lab,
    change: impl FnOnce(&mut EnrolHello, &mut Sealed),
    serial: Option<Vec<u8>>,
) -> Result<Outcome> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::default();
    let csr = params.serialize_request(&key).expect("a request");
    let leaf = params.self_signed(&key).expect("a certificate");
    let digest = KeyDigest::of(&key.subject_public_key_info());
    let agent = async {
        let (socket, _) = listener.accept().await.expect("accepted");
        let pair = (vec![leaf.der().clone()], key.into());
        let mut stream = raw::server(socket, pair, tls::ALPN_ENROL).await.expect("accepted");
        let exporter = exporter(stream.get_ref().1, TID).expect("keying material");
        let session = Session::new(TID, &lab.fleet.token(TID).expect("a token"), exporter);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let mut hello = EnrolHello {
            tid: TID.to_owned(),
            nonce: vec![1; NONCE_LEN],
            csr: csr.der().to_vec(),
            time_unix_ms: now.as_millis().try_into().expect("not yet"),
            ..EnrolHello::default()
        };
        let mut sealed = Sealed::default();
        change(&mut hello, &mut sealed);
        let honest = session.seal_hello(&hello, &digest);
        let flip = std::mem::take(&mut sealed);
        sealed = honest.clone();
        for (byte, bits) in sealed.message.iter_mut().zip(&flip.message) {
            *byte ^= bits;
        }
        for (byte, bits) in sealed.mac.iter_mut().zip(&flip.mac) {
            *byte ^= bits;
        }
        raw::send(&mut stream, &sealed).await;
        if let (Ok(grant), Some(serial)) = (raw::receive::<Sealed>(&mut stream).await, serial) {
            session.open_grant(&grant, &honest).expect("M2 holds");
            raw::send(&mut stream, &EnrolCommitted { serial }).await;
        }
        let _ = stream.shutdown().await;
    };
    let controller = async {
        let stream = TcpStream::connect(address).await.expect("connected");
        client::enrol(stream, &lab.fleet, TID, HOST).await
    };
    tokio::join!(controller, agent).0
}

#[tokio::test]
async fn the_controller_refuses_every_hello_but_the_right_one() {
    let lab = Lab::new();
    let foreign_key = KeyPair::generate().expect("a key");
    let foreign_csr = CertificateParams::default().serialize_request(&foreign_key).expect("a request");
    let refusal = async |change: &dyn Fn(&mut EnrolHello, &mut Sealed)| {
        against(&lab, change, None).await.expect_err("refused").to_string()
    };
    let skewed = refusal(&|hello, _| hello.time_unix_ms -= 11 * 60 * 1000).await;
    assert!(skewed.contains("the clocks differ by more than 10 minutes: 20"), "{skewed}");
    let tid = refusal(&|hello, _| hello.tid = "another".to_owned()).await;
    assert!(tid.contains("invalid enrol/1 message"), "{tid}");
    let nonce = refusal(&|hello, _| hello.nonce.truncate(8)).await;
    assert!(nonce.contains("invalid enrol/1 message"), "{nonce}");
    let key = refusal(&|hello, _| hello.csr = foreign_csr.der().to_vec()).await;
    assert!(key.contains("a key that is not its own"), "{key}");
    let csr = refusal(&|hello, _| *hello.csr.last_mut().expect("a byte") ^= 1).await;
    assert!(csr.contains("signing request is invalid"), "{csr}");
    for at in (0..200).step_by(16) {
        let mut mask = vec![0; at];
        mask.push(1);
        let flipped = refusal(&|_, flip| flip.message.clone_from(&mask)).await;
        assert!(flipped.contains("could not prove"), "byte {at}");
    }
    let mac = refusal(&|_, flip| flip.mac = vec![1]).await;
    assert!(mac.contains("could not prove"), "{mac}");
}

#[tokio::test]
async fn only_the_confirmation_counts() {
    let lab = Lab::new();
    let error = against(&lab, |_, _| (), None).await.expect_err("not confirmed");
    assert!(error.to_string().contains("did not confirm"), "{error}");
    let error = against(&lab, |_, _| (), Some(vec![1, 2, 3])).await.expect_err("another serial");
    assert!(error.to_string().contains("a different certificate"), "{error}");
}
