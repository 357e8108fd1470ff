//! How the controller verifies hosts, with good and bad certificates.

use std::{
    future::pending,
    time::{Duration, SystemTime},
};

use controller::{client, error::Kind, pki::Fleet};
use proto::identity::tls;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose as Usage, IsCa};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    lab::{HOST, Lab, Machine, Pair, sign},
    raw,
};

/// What `ctl` reports for a host with this certificate.
async fn verdict(fleet: &Fleet, pair: Pair) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let host = async {
        let (stream, _) = listener.accept().await.expect("accepted");
        // The server sends data first, like the HTTP/2 settings.
        if let Ok(mut stream) = raw::server(stream, pair, tls::ALPN_MAIN).await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"settings").await;
            let () = pending().await;
        }
        pending().await
    };
    tokio::select! {
        verdict = async {
            let stream = TcpStream::connect(address).await.expect("connected");
            client::connect(stream, fleet, HOST).await
        } => verdict.map_or_else(|error| {
            assert_eq!(error.kind(), Kind::Unreachable);
            error.to_string()
        }, |_| "good".to_owned()),
        () = host => unreachable!("it waits for ever"),
    }
}

#[tokio::test]
async fn every_defect_has_its_sentence() {
    let (lab, other) = (Lab::new(), Lab::new());
    let (issuer, ca, now) = (lab.issuer("host-ca"), lab.fleet.host_ca(), SystemTime::now());
    let make = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = lab.host_params();
        change(&mut params);
        sign(&params, &issuer, ca)
    };
    let elsewhere = lab.user_params().subject_alt_names;
    let neighbour =
        CertificateParams::new([proto::identity::names::host("db-2", lab.fleet.id())]).expect("a name");
    let cases = [
        (make(&|_| ()), "good"),
        (make(&|params| params.extended_key_usages.clear()), "key usage is not exactly serverAuth"),
        (
            make(&|params| params.extended_key_usages.push(Usage::ClientAuth)),
            "key usage is not exactly serverAuth",
        ),
        (make(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "another fleet"),
        (make(&|params| params.not_after = (now - Duration::from_secs(1)).into()), "no longer valid"),
        (make(&|params| params.not_before = (now + Duration::from_secs(60)).into()), "not valid yet"),
        (
            make(&|params| params.subject_alt_names.clone_from(&neighbour.subject_alt_names)),
            "belongs to another host",
        ),
        (make(&|params| params.subject_alt_names.clone_from(&elsewhere)), "belongs to another host"),
        (
            sign(&lab.host_params(), &other.issuer("host-ca"), other.fleet.host_ca()),
            "belongs to another fleet",
        ),
        (sign(&lab.host_params(), &lab.issuer("user-ca"), lab.fleet.user_ca()), "belongs to another fleet"),
        (raw::self_signed(), "belongs to another fleet"),
    ];
    for (pair, sentence) in cases {
        let verdict = verdict(&lab.fleet, pair).await;
        assert!(verdict.contains(sentence), "expected {sentence:?}: {verdict}");
    }
}

#[tokio::test]
async fn the_controller_of_another_fleet_is_told_so() {
    let (lab, other) = (Lab::new(), Lab::new());
    let (_machine, running) = Machine::enrolled(&lab).await;
    let error = running.connect(&other.fleet).await.expect_err("refused");
    assert!(error.to_string().contains("belongs to another fleet"), "{error}");
}

#[tokio::test]
async fn a_host_that_is_not_enrolled_says_so() {
    let lab = Lab::new();
    let machine = Machine::with(&lab.document());
    let running = machine.start().await;
    let error = running.connect(&lab.fleet).await.expect_err("refused");
    assert_eq!(error.to_string(), "the host is not enrolled yet");
}

#[tokio::test]
async fn something_else_on_the_port_is_no_agent() {
    let lab = Lab::new();
    // Room for a ClientHello with a post-quantum key share, which the host never reads.
    let (ours, mut theirs) = tokio::io::duplex(16 << 10);
    tokio::io::AsyncWriteExt::write_all(&mut theirs, b"SSH-2.0-OpenSSH_9.2\r\n").await.expect("written");
    let error = client::connect(ours, &lab.fleet, HOST).await.expect_err("refused");
    assert!(error.to_string().contains("is not a Magpie agent"), "{error}");
}

#[tokio::test]
async fn a_closed_connection_is_told() {
    let lab = Lab::new();
    let (ours, theirs) = tokio::io::duplex(1024);
    drop(theirs);
    let error = client::connect(ours, &lab.fleet, HOST).await.expect_err("refused");
    assert!(error.to_string().contains("closed the connection"), "{error}");
}
