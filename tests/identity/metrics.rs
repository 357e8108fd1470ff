//! A real Prometheus scrapes a host, over HTTP/2 and mutual TLS, with the certificate of a reader.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    time::Duration,
};

use proto::identity::{Role, names};
use record::directory::{Policy, Writer};
use record::{BootId, Encoder, HostCounters, Identity, Process, Sample};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::lab::{HOST, Lab, Machine, Running};

/// A record with one sample: two Apache workers of 35 MB each.
fn leave_a_record(directory: &Path) -> Writer {
    let worker = |pid| Process {
        comm: "apache2".into(),
        anon_kib: Some(35_840),
        ..Process::bare(Identity { pid, started_ns: 10_000_000 })
    };
    let sample = Sample {
        wall_ms: 1_000,
        boottime_ns: 1_000_000_000,
        interval_ms: 1_000,
        host: HostCounters { memory_total_kib: Some(627_712), ..HostCounters::default() },
        processes: vec![worker(7), worker(8)],
        ..Sample::default()
    };
    let policy = Policy::default();
    let (mut writer, _) = Writer::open(directory, BootId::default(), 0, policy).expect("a record");
    let mut record = Vec::new();
    Encoder::new(policy.block).encode(&sample, &mut record);
    writer.append(&record).expect("appended");
    writer
}

/// A Prometheus that scrapes one host as one user of the fleet.
struct Prometheus {
    address: SocketAddr,
    _process: Child,
}

impl Prometheus {
    fn start(lab: &Lab, running: &Running, user: &str) -> Self {
        let directory = lab.dir.path().join(format!("prometheus-{user}"));
        let fleet = lab.dir.path().join("fleet");
        fs::create_dir(&directory).expect("a directory");
        let config = format!(
            "scrape_configs:\n- job_name: magpie\n  scheme: https\n  scrape_interval: 200ms\n  scrape_timeout: 200ms\n  \
             tls_config:\n    ca_file: {fleet}/host-ca.crt\n    cert_file: {fleet}/users/{user}.crt\n    \
             key_file: {fleet}/users/{user}.key\n    server_name: {name}\n  \
             static_configs:\n  - targets: ['{target}']\n",
            fleet = fleet.display(),
            name = names::host(HOST, lab.fleet.id()),
            target = running.address,
        );
        fs::write(directory.join("prometheus.yml"), config).expect("written");
        let free =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", directory.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={free}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("prometheus, of Debian's package of that name");
        Self { address: free, _process: process }
    }

    /// Waits for the first answer to a query.
    async fn value(&self, query: &str) -> f64 {
        let asking = async {
            loop {
                if let Some(value) = self.ask(query).await {
                    return value;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(60), asking).await.unwrap_or_else(|_| panic!("no answer to {query}"))
    }

    async fn ask(&self, query: &str) -> Option<f64> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        let request = format!("GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.ok()?;
        let (_, body) = reply.split_once("\r\n\r\n")?;
        let json: Value = serde_json::from_str(body).ok()?;
        json["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

#[tokio::test]
async fn prometheus_scrapes_with_a_readers_certificate() {
    let lab = Lab::new();
    lab.speaking_as(Role::Reader);
    let (machine, running) = Machine::enrolled(&lab).await;
    let _writer = leave_a_record(&machine.paths().history());
    let prometheus = Prometheus::start(&lab, &running, Role::Reader.name());
    assert_eq!(prometheus.value("magpie_recorder_up").await, 1.0);
    assert_eq!(prometheus.value("magpie_memory_bytes%7Bkind=%22total%22%7D").await, 627_712.0 * 1024.0);
    let footprint = prometheus.value("magpie_group_footprint_bytes%7Bgroup=%22apache2%22%7D").await;
    assert_eq!(footprint, 2.0 * 35.0 * 1024.0 * 1024.0);
}

#[tokio::test]
async fn who_may_not_read_may_not_scrape() {
    let lab = Lab::new();
    lab.speaking_as(Role::Enroller);
    let (_machine, running) = Machine::enrolled(&lab).await;
    let prometheus = Prometheus::start(&lab, &running, Role::Enroller.name());
    assert_eq!(prometheus.value("up").await, 0.0);
}
