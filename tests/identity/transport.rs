//! Limits, versions and protocols of the connection itself.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use agent::serve::shares::Bounds;
use controller::client;
use proto::{
    identity::{Role, tls},
    pb::StatusRequest,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{
    lab::{HOST, Lab, Machine, Pair, Running, sign},
    raw,
    stalling::{Stalling, Tally},
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
    machine.limits.handshakes_per_network = 9;
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
    machine.limits.connections.all = 1;
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

/// Connects from this address of the loopback network.
async fn dial_from(source: [u8; 4], running: &Running) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((source, 0))).expect("bound");
    socket.connect(running.address).await.expect("the port is open")
}

#[tokio::test]
async fn one_network_may_not_take_all_handshakes() {
    let lab = Lab::new();
    let mut machine = Machine::new();
    machine.limits.handshakes_per_network = 2;
    machine.limits.hello_timeout = Duration::from_secs(60);
    machine.limits.handshake_timeout = Duration::from_secs(60);
    let (_machine, running) = machine.enrol(&lab).await;
    let mut silent = Vec::new();
    for host in 1..=3 {
        silent.push(dial_from([127, 1, 2, host], &running).await);
    }
    let closed = timeout(Duration::from_secs(2), silent[0].read(&mut [0])).await;
    assert!(matches!(closed, Ok(Ok(0) | Err(_))), "the oldest makes room: {closed:?}");
    let neighbour = dial_from([127, 1, 2, 4], &running).await;
    assert!(client::connect(neighbour, &lab.fleet, HOST).await.is_ok(), "who means it gets in");
}

#[tokio::test]
async fn the_silent_of_many_networks_keep_out_nobody() {
    let lab = Lab::new();
    let (_machine, running) = Machine::enrolled(&lab).await;
    let began = Instant::now();
    let mut silent = Vec::new();
    for network in 1..=16 {
        for _ in 0..40 {
            silent.push(dial_from([127, 1, network, 1], &running).await);
        }
    }
    let known = running.status(&lab.fleet);
    assert!(timeout(Duration::from_secs(2), known).await.expect("at once").is_ok());
    let stranger = dial_from([127, 1, 99, 1], &running).await;
    let stranger = client::connect(stranger, &lab.fleet, HOST);
    assert!(timeout(Duration::from_secs(2), stranger).await.expect("at once").is_ok());
    for socket in &mut silent {
        let closed = timeout(Duration::from_secs(5), socket.read(&mut [0])).await;
        assert!(matches!(closed, Ok(Ok(0) | Err(_))), "the silent are closed: {closed:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn readers_leave_room_for_operators() {
    let lab = Lab::new();
    let mut machine = Machine::new();
    machine.limits.connections = Bounds { all: 2, kept: 1, each: 2 };
    let (_machine, running) = machine.enrol(&lab).await;
    let reader = lab.speaking_as(Role::Reader);
    let _first = running.connect(&reader).await.expect("there is one place");
    let second = running.connect(&reader).await.expect_err("the other is kept");
    assert!(second.to_string().contains("closed the connection"), "{second}");
    assert!(running.connect(&lab.speaking_as(Role::Operator)).await.is_ok());
}

#[tokio::test]
async fn one_user_may_not_take_all_connections() {
    let lab = Lab::new();
    let mut machine = Machine::new();
    machine.limits.connections.each = 1;
    let (_machine, running) = machine.enrol(&lab).await;
    let first = raw::client(running.address, Some(good(&lab)), Some(tls::ALPN_MAIN)).await;
    let mut first = first.expect("accepted");
    first.read_u8().await.expect("it is served");
    let second = raw::client(running.address, Some(good(&lab)), Some(tls::ALPN_MAIN)).await;
    assert!(raw::refusal(second).await.is_some(), "one too many of the same user");
    assert!(running.connect(&lab.speaking_as(Role::Reader)).await.is_ok(), "another is served");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_ends_its_connection() {
    let lab = Lab::new();
    let mut machine = Machine::new();
    machine.limits.unread = Duration::from_secs(1);
    let (_machine, running) = machine.enrol(&lab).await;
    let asked = |window| {
        let status = ("/magpie.v1.Host/Status", &StatusRequest {});
        Stalling::calls(running.address, good(&lab), window, 1, status, Tally::default())
    };
    let mut read = asked(1 << 20).await.expect("connected");
    let mut unread = asked(0).await.expect("connected");
    assert!(timeout(Duration::from_secs(5), unread.ended()).await.is_ok(), "the agent gives up");
    assert!(timeout(Duration::ZERO, read.ended()).await.is_err(), "one that was read stays open");
}
