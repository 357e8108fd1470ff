//! EC2 instances: how the agent uses the metadata service.

use std::{
    fs,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use agent::serve::{ServeError, Server};
use controller::client::Outcome;
use proto::identity::userdata;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::lab::{Lab, Machine, TID};

/// Answers of the metadata service. Changes take effect at once.
#[derive(Clone, Default)]
struct Told {
    instance_id: String,
    user_data: Option<Vec<u8>>,
    /// Answers without a token and issues none: IMDS version 1.
    is_old: bool,
}

/// A metadata service on loopback that behaves like EC2's for IMDSv2 clients.
struct Imds {
    address: SocketAddr,
    told: Arc<Mutex<Told>>,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

const TOKEN: &str = "AQAAAMetadataToken==";

impl Imds {
    async fn start(instance_id: &str, user_data: Option<Vec<u8>>) -> Self {
        let told = Told { instance_id: instance_id.to_owned(), user_data, is_old: false };
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), told).await
    }

    async fn start_at(address: SocketAddr, told: Told) -> Self {
        let listener = TcpListener::bind(address).await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let (told, asked) = (Arc::new(Mutex::new(told)), Arc::default());
        let task = tokio::spawn(serve(listener, Arc::clone(&told), Arc::clone(&asked)));
        Self { address, told, asked, task }
    }

    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().expect("no panic"));
    }

    /// Every request line so far.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }

    async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn serve(listener: TcpListener, told: Arc<Mutex<Told>>, asked: Arc<Mutex<Vec<String>>>) {
    loop {
        let (socket, _) = listener.accept().await.expect("accepted");
        let told = told.lock().expect("no panic").clone();
        // One request at a time is enough for one agent.
        if let Some(line) = answer(socket, &told).await {
            asked.lock().expect("no panic").push(line);
        }
    }
}

/// Answers one request; returns its first line.
async fn answer(socket: TcpStream, told: &Told) -> Option<String> {
    let mut socket = BufReader::new(socket);
    let (mut line, mut headers) = (String::new(), String::new());
    socket.read_line(&mut line).await.ok()?;
    while !headers.ends_with("\r\n\r\n") {
        let read = socket.read_line(&mut headers).await.ok()?;
        if read == 0 || headers == "\r\n" {
            break;
        }
    }
    let headers = headers.to_ascii_lowercase();
    let has_token = headers.contains(&format!("x-aws-ec2-metadata-token: {TOKEN}\r\n").to_ascii_lowercase());
    let wants_token = headers.contains("x-aws-ec2-metadata-token-ttl-seconds: ");
    let (status, body) = match line.trim_end() {
        "PUT /latest/api/token HTTP/1.1" if wants_token && !told.is_old => ("200 OK", TOKEN.as_bytes()),
        "PUT /latest/api/token HTTP/1.1" => ("404 Not Found", &b""[..]),
        _ if !has_token && !told.is_old => ("401 Unauthorized", &b""[..]),
        "GET /latest/meta-data/instance-id HTTP/1.1" => ("200 OK", told.instance_id.as_bytes()),
        "GET /latest/user-data HTTP/1.1" => match &told.user_data {
            Some(user_data) => ("200 OK", user_data.as_slice()),
            None => ("404 Not Found", &b"<html>"[..]),
        },
        _ => ("404 Not Found", &b""[..]),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    socket.write_all(head.as_bytes()).await.ok()?;
    socket.write_all(body).await.ok()?;
    socket.shutdown().await.ok()?;
    Some(line.trim_end().to_owned())
}

/// A cloud machine that uses this metadata service.
fn machine_at(imds: &Imds) -> Machine {
    let mut machine = Machine::new();
    machine.metadata = Some(format!("http://{}", imds.address).parse().expect("a URL"));
    machine
}

fn user_data(lab: &Lab) -> Vec<u8> {
    userdata::compose(&lab.document(), Some(b"#!/bin/sh\n")).expect("composed")
}

/// Waits for this text; asserts that no port is opened.
async fn says_instead_of_binding(machine: &Machine, words: &str) {
    let mut bind = pin!(Server::bind(machine.config()));
    tokio::select! {
        _ = &mut bind => panic!("bound"),
        () = machine.console.wait_for(words) => (),
    }
}

#[tokio::test]
async fn an_instance_is_enrolled_by_its_user_data_which_is_not_read_again() {
    let lab = Lab::new();
    let imds = Imds::start("i-1", Some(user_data(&lab))).await;
    let machine = machine_at(&imds);
    let running = machine.start().await;
    assert_eq!(running.enrol(&lab.fleet).await.expect("it can be enrolled"), Outcome::Committed);
    machine.console.wait_for("done").await;
    running.stop().await.expect("it stops");
    let asked = imds.asked();
    let running = machine.start().await;
    assert!(running.status(&lab.fleet).await.is_ok(), "the identity is good on its own instance");
    let since = imds.asked().split_off(asked.len());
    assert!(!since.is_empty() && !since.iter().any(|line| line.contains("user-data")), "{since:?}");
}

#[tokio::test]
async fn a_file_goes_before_user_data() {
    let lab = Lab::new();
    let imds = Imds::start("i-1", Some(user_data(&lab))).await;
    let machine = machine_at(&imds);
    let in_file = lab.fleet.enrol_document("from-a-file", SystemTime::now()).expect("a document");
    machine.leave(&in_file);
    let running = machine.start().await;
    machine.console.wait_for("tid=from-a-file").await;
    running.kill().await;
}

#[tokio::test]
async fn a_file_that_comes_later_will_do() {
    let lab = Lab::new();
    let imds = Imds::start("i-1", None).await;
    let machine = machine_at(&imds);
    let mut bind = pin!(Server::bind(machine.config()));
    tokio::select! {
        _ = &mut bind => panic!("bound"),
        () = machine.console.wait_for("no enrol document in the user-data") => (),
    }
    machine.leave(&lab.document());
    bind.await.expect("bound");
}

#[tokio::test]
async fn user_data_that_is_of_no_use_opens_no_port() {
    let lab = Lab::new();
    let hour = Duration::from_secs(3600);
    let expired = lab.fleet.enrol_document(TID, SystemTime::now() - hour).expect("a document");
    let compose = |document: &[u8]| userdata::compose(document, None).expect("composed");
    for (user_data, words) in [
        (compose(&expired), "expired"),
        (compose(b"{"), "malformed"),
        (b"Content-Type: multipart/mixed\n\n".to_vec(), "no boundary"),
        (b"#!/bin/sh\n".to_vec(), "no enrol document in the user-data"),
        (vec![b'x'; userdata::LIMIT + 1], "too long"),
    ] {
        let imds = Imds::start("i-1", Some(user_data)).await;
        says_instead_of_binding(&machine_at(&imds), words).await;
    }
}

#[tokio::test]
async fn no_port_is_open_before_the_service_answers() {
    let lab = Lab::new();
    let imds = Imds::start("i-1", None).await;
    let machine = machine_at(&imds);
    let (address, told) = (imds.address, imds.told.lock().expect("no panic").clone());
    imds.stop().await;
    machine.leave(&lab.document());
    let mut bind = pin!(Server::bind(machine.config()));
    tokio::select! {
        _ = &mut bind => panic!("bound"),
        () = machine.console.wait_for("cannot be reached") => (),
    }
    let _imds = Imds::start_at(address, told).await;
    bind.await.expect("bound, once it answers");
    assert_eq!(machine.console.text().matches("cannot be reached").count(), 1, "what lasts is said once");
}

#[tokio::test]
async fn a_service_of_version_1_is_not_believed() {
    let lab = Lab::new();
    let imds = Imds::start("i-1", Some(user_data(&lab))).await;
    imds.tell(|told| told.is_old = true);
    says_instead_of_binding(&machine_at(&imds), "gives no token").await;
    assert!(imds.asked().iter().all(|line| line.starts_with("PUT ")), "{:?}", imds.asked());
}

#[tokio::test]
async fn what_is_no_instance_id_is_not_believed() {
    let imds = Imds::start("<html>", None).await;
    says_instead_of_binding(&machine_at(&imds), "no instance's id").await;
}

#[tokio::test]
async fn on_another_instance_the_identity_is_quarantined_and_its_own_document_read() {
    let lab = Lab::new();
    let imds = Imds::start("i-1", None).await;
    let (machine, running) = machine_at(&imds).enrol(&lab).await;
    running.stop().await.expect("it stops");
    // An instance that boots from an image of the first one's disk.
    imds.tell(|told| {
        told.instance_id = "i-2".to_owned();
        told.user_data = Some(user_data(&lab));
    });
    let running = machine.start().await;
    assert!(machine.console.text().contains("MAGPIE-ENROL v1 error: this disk was cloned"));
    assert_eq!(fs::read_dir(machine.paths().quarantine()).expect("a directory").count(), 1);
    assert_eq!(running.enrol(&lab.fleet).await.expect("a new host"), Outcome::Committed);
}

#[tokio::test]
async fn an_enrolled_host_does_not_speak_while_its_instance_is_not_known() {
    let lab = Lab::new();
    let imds = Imds::start("i-1", None).await;
    let (mut machine, running) = machine_at(&imds).enrol(&lab).await;
    running.stop().await.expect("it stops");
    imds.stop().await;
    says_instead_of_binding(&machine, "cannot be reached").await;

    machine.metadata = None;
    let bound = Server::bind(machine.config()).await.map(drop);
    assert!(
        matches!(&bound, Err(ServeError::Enrol(error)) if error.to_string().contains("belongs to instance i-1")),
        "{bound:?}"
    );
    assert!(machine.paths().state().exists(), "not to be known is not to be another");
}
