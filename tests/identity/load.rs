//! A reader that makes as many calls as it can and reads no answers must not lock out operators. Tests the built agent
//! under the load that once took all of its threads, its inotify instances and 131 MB.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    process::Stdio,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use agent::paths::Paths;
use controller::{client, pki::Fleet};
use prost::Message;
use proto::{
    identity::{Role, names},
    pb::{
        AttachRequest, Command as Argv, FollowRequest, ReadRequest, StartRequest, StatusRequest,
        host_client::HostClient, runs_client::RunsClient, start_request::What,
    },
};
use rcgen::{DnType, SanType};
use record::directory::{Policy, Writer};
use record::{BootId, Encoder, Identity, Limits, Process, Sample};
use tempfile::TempDir;
use tests::{binary, repository};
use tokio::{
    net::{TcpSocket, TcpStream},
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{
    lab::{HOST, Lab, Pair, TID, sign},
    stalling::{Stalling, Tally},
};

/// Maximum response time for an operator under any load.
const SOON: Duration = Duration::from_secs(2);
/// Limits of the agent's memory: under load, and afterwards.
const MOST_MIB: u64 = 64;
const BACK_MIB: u64 = 20;
const READ: &str = "/magpie.v1.History/Read";
const FOLLOW: &str = "/magpie.v1.History/Follow";
const ATTACH: &str = "/magpie.v1.Runs/Attach";

/// The built agent, started as by its unit.
struct Agent {
    address: SocketAddr,
    process: Child,
    recorder: Recorder,
    _root: TempDir,
}

impl Agent {
    async fn enrolled(lab: &Lab) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let paths = Paths::new(root.path());
        fs::write(paths.enrol_document(), lab.document()).expect("left");
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(paths.enrol_document(), closed).expect("closed to others");
        let recorder = Recorder::with_blocks(&paths, 15);
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("a port");
        let process = Command::new(binary("agent"))
            .args(["serve", "--listen", &address.to_string(), "--root"])
            .arg(root.path())
            .envs(environment_of_the_unit())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("started");
        let agent = Self { address, process, recorder, _root: root };
        let stream = agent.dial().await;
        client::enrol(stream, &lab.fleet, TID, HOST).await.expect("enrolled");
        agent
    }

    /// Returns when the agent listens.
    async fn dial(&self) -> TcpStream {
        let dialling = async {
            loop {
                match TcpStream::connect(self.address).await {
                    Ok(stream) => return stream,
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            }
        };
        timeout(Duration::from_secs(20), dialling).await.expect("it listens")
    }

    /// Resident memory in MiB, without file pages: the kernel can reclaim those.
    fn memory(&self) -> u64 {
        let pid = self.process.id().expect("it lives");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        let kib = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name)).expect("the line is there");
            line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
        };
        (kib("RssAnon:") + kib("RssShmem:")).div_ceil(1024)
    }

    /// Acts as an operator: connects, gets the status, and starts a run. Returns the longest time of these.
    async fn work(&self, operator: &Fleet, run_id: &str) -> Duration {
        let began = Instant::now();
        let channel = client::connect(self.dial().await, operator, HOST).await.expect("connected");
        HostClient::new(channel.clone()).status(StatusRequest {}).await.expect("a status");
        let status = began.elapsed();
        let began = Instant::now();
        let what = Some(What::Command(Argv { argv: vec!["/bin/true".to_owned()], ..Argv::default() }));
        let request = StartRequest { run_id: run_id.to_owned(), what, ..StartRequest::default() };
        RunsClient::new(channel).start(request).await.expect("started");
        status.max(began.elapsed())
    }
}

/// `NAME=VALUE` of the unit's `Environment=`.
fn environment_of_the_unit() -> Vec<(String, String)> {
    let unit = fs::read_to_string(repository("deploy/systemd/magpie-agent.service")).expect("the unit");
    let settings = unit.lines().filter_map(|line| line.strip_prefix("Environment="));
    let settings = settings.flat_map(str::split_ascii_whitespace);
    settings.filter_map(|setting| setting.split_once('=')).map(|(a, b)| (a.into(), b.into())).collect()
}

/// A recorder that writes samples.
struct Recorder {
    writer: Writer,
    encoder: Encoder,
    second: u64,
}

impl Recorder {
    fn with_blocks(paths: &Paths, blocks: u64) -> Self {
        let block = Limits { records: 12, ..Policy::default().block };
        let policy = Policy { block, ..Policy::default() };
        let writer = Writer::open(&paths.history(), BootId::default(), 0, policy).expect("a record").0;
        let mut recorder = Self { writer, encoder: Encoder::new(block), second: 0 };
        for _ in 0..blocks * 12 {
            recorder.append();
        }
        recorder
    }

    /// Writes a sample of 300 active processes.
    fn append(&mut self) {
        self.second += 1;
        let second = self.second;
        let process = |pid: u32| {
            let noise = (u64::from(pid) * 2_654_435_761).wrapping_mul(second * second + 7);
            Process {
                comm: format!("worker-{pid}").into(),
                user_us: second * 40_000_000 + noise % 39_999_999,
                resident_kib: noise % 9_999_991,
                anon_kib: Some(noise % 9_999_973),
                ..Process::bare(Identity { pid, started_ns: 10_000_000 })
            }
        };
        let sample = Sample {
            wall_ms: i64::try_from(second).expect("small") * 1_000,
            boottime_ns: second * 1_000_000_000,
            interval_ms: 1_000,
            processes: (1..=300).map(process).collect(),
            ..Sample::default()
        };
        let mut record = Vec::new();
        self.encoder.encode(&sample, &mut record);
        self.writer.append(&record).expect("appended");
    }
}

/// A user with the role reader and this name.
fn reader(lab: &Lab, name: &str) -> Pair {
    let mut params = lab.user_params();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, Role::Reader.organisation());
    let uri = names::user(lab.fleet.id(), name);
    params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("ASCII"))];
    sign(&params, &lab.issuer("user-ca"), lab.fleet.user_ca())
}

/// Connections of a reader with 32 calls each.
async fn ask(
    lab: &Lab,
    agent: &Agent,
    (name, connections): (&str, usize),
    call: (&str, &impl Message),
    window: u32,
) -> (Vec<Stalling>, Tally) {
    let (mut open, tally) = (Vec::new(), Tally::default());
    for _ in 0..connections {
        let pair = reader(lab, name);
        let stalling = Stalling::calls(agent.address, pair, window, 32, call, tally.clone()).await;
        open.push(stalling.expect("connected"));
    }
    let answered = async {
        while tally.answered() < connections * 32 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(Duration::from_secs(10), answered).await.is_ok(), "{} answers", tally.answered());
    (open, tally)
}

/// Silent connections from sixteen networks, 40 from each.
async fn silent(agent: &Agent) -> Vec<TcpStream> {
    let mut silent = Vec::new();
    for network in 1..=16 {
        for _ in 0..40 {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind(SocketAddr::from(([127, 2, network, 1], 0))).expect("bound");
            silent.push(socket.connect(agent.address).await.expect("the port is open"));
        }
    }
    silent
}

async fn withstands(waves: usize, rounds: usize) {
    let lab = Lab::new();
    let mut agent = Agent::enrolled(&lab).await;
    let operator = lab.speaking_as(Role::Operator);
    let idle = agent.work(&operator, "r-idle").await;
    assert!(idle < SOON, "without any load: {idle:?}");

    // The same client with a window gets its answers.
    let (open, tally) = ask(&lab, &agent, ("control", 1), (READ, &ReadRequest::default()), 8 << 20).await;
    let all = async {
        // The places are free when all answers have been read: then the next call is admitted.
        while tally.bytes.load(Ordering::Relaxed) < 32 * 100_000 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let read = timeout(Duration::from_secs(10), all).await;
    assert!(read.is_ok(), "{} bytes", tally.bytes.load(Ordering::Relaxed));
    drop(open);

    let before = agent.memory();
    let (mut longest, mut most, mut between) = (Duration::ZERO, before, Vec::new());
    for wave in 0..waves {
        between.push(agent.memory());
        let (_reads, reads) = ask(&lab, &agent, ("eve", 17), (READ, &ReadRequest::default()), 0).await;
        let admitted = reads.begun.load(Ordering::Relaxed);
        assert_eq!(admitted, 32, "of 544 calls of one reader");
        let (_follows, follows) =
            ask(&lab, &agent, ("mallory", 5), (FOLLOW, &FollowRequest::default()), 0).await;
        let attach = AttachRequest { run_id: "r-idle".to_owned(), offset: 0 };
        let (_attaches, _) = ask(&lab, &agent, ("trudy", 5), (ATTACH, &attach), 0).await;
        assert_eq!(follows.begun.load(Ordering::Relaxed), 32);
        for round in 0..rounds {
            let _silent = silent(&agent).await;
            agent.recorder.append();
            longest = longest.max(agent.work(&operator, &format!("r-{wave}-{round}")).await);
            most = most.max(agent.memory());
        }
        assert_eq!(reads.bytes.load(Ordering::Relaxed), 0, "nobody read anything");
    }
    let back = async {
        while agent.memory() >= BACK_MIB {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let back = timeout(Duration::from_secs(15), back).await;
    let after = agent.memory();
    println!(
        "answered within {longest:?} (idle {idle:?}); MiB: {before} before, {most} at most, {after} after; \
         between the waves {between:?}"
    );
    assert!(longest < SOON, "an operator waited {longest:?}");
    assert!(most < MOST_MIB, "{most} MiB");
    assert!(back.is_ok(), "{after} MiB stay");
    assert!(agent.process.try_wait().expect("its state").is_none(), "it lives");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_keeps_out_nobody() {
    withstands(1, 4).await;
}

/// For `make soak`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn who_does_not_read_keeps_out_nobody_for_long() {
    withstands(20, 20).await;
}
