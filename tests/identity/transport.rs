//! Limits, versions and protocols of the connection itself.

use std::time::Duration;

use proto::identity::{Role, tls};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{
    lab::{Lab, Machine, Pair, sign},
    raw,
};

fn good(lab: &Lab) -> Pair {
    sign(&lab.user_params(), &lab.issuer("user-ca"), lab.fleet.user_ca())
}

#[tokio::test]
async fn the_limits_of_http2_are_announced() {
    let lab = Lab::new();
    let (_machine, running) = Machine::enrolled(&lab).await;
    let mut stream =
        raw::client(running.address, Some(good(&lab)), Some(tls::ALPN_MAIN)).await.expect("accepted");
    // RFC 9113 §4.1: length (24 bits), type, flags, stream; SETTINGS is type 4, six bytes an entry.
    let mut header = [0; 9];
    stream.read_exact(&mut header).await.expect("a frame");
    assert_eq!(header[3], 4, "the first frame is SETTINGS");
    let mut entries = vec![0; usize::from(header[2])];
    stream.read_exact(&mut entries).await.expect("its entries");
    let setting = |wanted: u16| {
        let found = entries.chunks_exact(6).find(|entry| entry[..2] == wanted.to_be_bytes());
        found.map(|entry| u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]))
    };
    assert_eq!(setting(3), Some(32), "SETTINGS_MAX_CONCURRENT_STREAMS");
    assert_eq!(setting(4), Some(1 << 20), "SETTINGS_INITIAL_WINDOW_SIZE");
    assert_eq!(setting(6), Some(16 << 10), "SETTINGS_MAX_HEADER_LIST_SIZE");
}

#[tokio::test]
async fn a_protocol_must_be_named_and_be_the_right_one() {
    let lab = Lab::new();
    let (_machine, running) = Machine::enrolled(&lab).await;
    for alpn in [None, Some(&b"http/1.1"[..]), Some(tls::ALPN_ENROL)] {
        let refusal = raw::refusal(raw::client(running.address, Some(good(&lab)), alpn).await).await;
        assert!(refusal.is_some(), "{alpn:?}");
    }
    assert!(running.status(&lab.fleet).await.is_ok());
}

#[tokio::test]
async fn tls_1_2_is_not_spoken() {
    let lab = Lab::new();
    let (_machine, running) = Machine::enrolled(&lab).await;
    // RFC 5246 §7.4.1.2: a ClientHello of 1.2 with one suite (ECDHE-ECDSA-AES128-GCM-SHA256), one group
    // (P-256) and one signature scheme (ECDSA P-256 with SHA-256).
    let extensions = [[0, 10, 0, 4, 0, 2, 0, 23].as_slice(), &[0, 13, 0, 4, 0, 2, 4, 3]].concat();
    let body =
        [[3, 3].as_slice(), &[7; 32], &[0], &[0, 2, 0xc0, 0x2b], &[1, 0], &[0, 16], &extensions].concat();
    let length = u8::try_from(body.len()).expect("short");
    let record = [[22, 3, 1, 0, length + 4, 1, 0, 0, length].as_slice(), &body].concat();
    let mut socket = running.dial().await;
    socket.write_all(&record).await.expect("sent");
    let mut alert = [0; 7];
    socket.read_exact(&mut alert).await.expect("an alert");
    assert_eq!((alert[0], alert[5], alert[6]), (21, 2, 70), "fatal protocol_version (RFC 8446 §6.2)");
}

#[tokio::test]
async fn no_ticket_is_given() {
    let lab = Lab::new();
    let (_machine, running) = Machine::enrolled(&lab).await;
    for _ in 0..2 {
        let stream = raw::client(running.address, Some(good(&lab)), Some(tls::ALPN_MAIN)).await;
        let mut stream = stream.expect("accepted");
        stream.read_u8().await.expect("the first frame");
        let (_, connection) = stream.get_ref();
        assert_eq!(connection.tls13_tickets_received(), 0);
        assert_eq!(connection.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test]
async fn slow_handshakes_hold_up_nobody_and_end() {
    let lab = Lab::new();
    let mut machine = Machine::new();
    machine.limits.handshake_timeout = Duration::from_secs(1);
    machine.limits.handshakes_per_address = 9;
    let (_machine, running) = machine.enrol(&lab).await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(running.dial().await);
    }
    let served = timeout(Duration::from_millis(900), running.status(&lab.fleet)).await;
    assert!(served.expect("nobody waits for the silent").is_ok());
    for socket in &mut silent {
        let closed = timeout(Duration::from_secs(5), socket.read(&mut [0])).await;
        assert!(matches!(closed, Ok(Ok(0) | Err(_))), "the agent gives up: {closed:?}");
    }
}

#[tokio::test]
async fn connections_are_limited_and_given_back() {
    let lab = Lab::new();
    let mut machine = Machine::new();
    machine.limits.connections = 1;
    let (_machine, running) = machine.enrol(&lab).await;
    let first = raw::client(running.address, Some(good(&lab)), Some(tls::ALPN_MAIN)).await;
    let mut first = first.expect("accepted");
    first.read_u8().await.expect("it is served");
    let error = running.connect(&lab.speaking_as(Role::Reader)).await.expect_err("one too many");
    assert!(error.to_string().contains("closed the connection"), "{error}");
    first.shutdown().await.expect("closed");
    let mut rest = Vec::new();
    let _ = first.read_to_end(&mut rest).await;
    drop(first);
    let again = async {
        while running.connect(&lab.fleet).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(Duration::from_secs(10), again).await.is_ok(), "the place is free again");
}

#[tokio::test]
async fn one_address_may_not_take_all_handshakes() {
    let lab = Lab::new();
    let mut machine = Machine::new();
    machine.limits.handshakes_per_address = 2;
    let (_machine, running) = machine.enrol(&lab).await;
    let silent = [running.dial().await, running.dial().await];
    let closed = timeout(Duration::from_secs(2), running.dial().await.read(&mut [0])).await;
    assert!(matches!(closed, Ok(Ok(0) | Err(_))), "the third is closed at once: {closed:?}");
    drop(silent);
    let again = async {
        while running.connect(&lab.fleet).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(Duration::from_secs(10), again).await.is_ok(), "the places are free again");
}

#[tokio::test]
async fn one_user_may_not_take_all_connections() {
    let lab = Lab::new();
    let mut machine = Machine::new();
    machine.limits.connections_per_user = 1;
    let (_machine, running) = machine.enrol(&lab).await;
    let first = raw::client(running.address, Some(good(&lab)), Some(tls::ALPN_MAIN)).await;
    let mut first = first.expect("accepted");
    first.read_u8().await.expect("it is served");
    let second = raw::client(running.address, Some(good(&lab)), Some(tls::ALPN_MAIN)).await;
    assert!(raw::refusal(second).await.is_some(), "one too many of the same user");
    assert!(running.connect(&lab.speaking_as(Role::Reader)).await.is_ok(), "another is served");
}
