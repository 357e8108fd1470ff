//! The local provider with real parts: a baked image, real namespaces, systemd. Needs root and the network of
//! the machine's apt sources; where namespaces are refused, it says so and does nothing.
//!
//! The image is kept in the target directory, so only the first run bakes one.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use controller::provider::{Host, HostState, ImageId, ImageSpec, Launch, Provider, local::Local};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Mutex,
};

/// Stands in for the agent: `serve` runs one line from each connection in a shell, `record` idles.
const AGENT: &str = r#"#!/usr/bin/perl
use IO::Socket::INET;
sleep 1000000000 if $ARGV[0] eq 'record';
$SIG{CHLD} = 'IGNORE';
my $listener = IO::Socket::INET->new(Listen => 64, LocalPort => 717, ReuseAddr => 1) or die;
while (1) {
    my $peer = $listener->accept or next;
    next if fork;
    $SIG{CHLD} = 'DEFAULT';
    my $command = <$peer>;
    print $peer scalar `$command 2>&1` if defined $command;
    exit 0;
}
"#;

const PORT: u16 = 717;

/// Tests share one cloud, and one of them looks for what is left of it: they take turns.
static TURN: Mutex<()> = Mutex::const_new(());

struct Cloud {
    local: Local,
    image: ImageId,
    state: PathBuf,
}

/// The cloud and its image, or `None` where this machine has no namespaces to give.
async fn cloud() -> Option<Cloud> {
    let namespaces = Command::new("unshare").args(["--user", "--net", "true"]).status();
    if !nix::unistd::geteuid().is_root() || !namespaces.is_ok_and(|status| status.success()) {
        eprintln!("skipped: needs root and namespaces");
        return None;
    }
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let state = base.join("local-provider");
    let local = Local::open(state.clone(), env!("CARGO_BIN_EXE_ctl").into()).unwrap();
    let agent = base.join("stand-in-agent");
    fs::write(&agent, AGENT).unwrap();
    let began = Instant::now();
    let spec = ImageSpec { agent, packages: Vec::new() };
    let image = local.image(&spec, &|step| eprintln!("bake: {step}")).await.unwrap();
    eprintln!("image after {:?}", began.elapsed());
    Some(Cloud { local, image, state })
}

impl Cloud {
    fn launch_of(&self, role: &str, tid: &str, memory: Option<u64>) -> Launch {
        Launch {
            fleet: "test".into(),
            role: role.into(),
            tid: tid.into(),
            image: self.image.clone(),
            memory,
            enrol_document: b"{\"v\":1}".to_vec(),
        }
    }

    async fn connect(&self, host: &Host) -> TcpStream {
        self.local.dial_until(host, PORT, Instant::now() + Duration::from_secs(60)).await.unwrap()
    }

    /// Runs a shell command in the host.
    async fn ask(&self, host: &Host, command: &str) -> String {
        let mut stream = self.connect(host).await;
        stream.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_boots_answers_and_leaves_nothing() {
    let _turn = TURN.lock().await;
    let Some(cloud) = cloud().await else { return };
    let before = Machine::now(&cloud.state);

    let began = Instant::now();
    let host = cloud.local.launch(&cloud.launch_of("db", "boots", None)).await.unwrap();
    eprintln!("launched after {:?}", began.elapsed());
    cloud.connect(&host).await;
    eprintln!("port answers after {:?}", began.elapsed());
    eprintln!("{}", cloud.ask(&host, "systemctl is-system-running --wait; systemctl --failed; systemd-analyze blame | head; cat /proc/mounts; id; ls -la /var/lib/magpie /dev; cat /etc/machine-id /etc/hosts; ip a; cat /proc/self/cgroup; ps ax; ls -l /proc/1/fd").await);
    eprintln!("{}", cloud.local.console(&host).await.unwrap());
    let began = Instant::now();
    cloud.local.stop(&host).await.unwrap();
    eprintln!("stopped after {:?}", began.elapsed());
    let began = Instant::now();
    cloud.local.start(&host).await.unwrap();
    cloud.connect(&host).await;
    eprintln!("restarted after {:?}", began.elapsed());
    let began = Instant::now();
    cloud.local.destroy(&host).await.unwrap();
    eprintln!("destroyed after {:?}", began.elapsed());
    assert_eq!(Machine::now(&cloud.state), before);
}

/// All of the machine that a local host might touch.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    mounts: String,
    links: String,
    routes: String,
    rules: String,
    forwarding: String,
    cgroups: BTreeSet<PathBuf>,
    state: BTreeSet<PathBuf>,
    null: u32,
}

impl Machine {
    fn now(state: &Path) -> Self {
        let run = |program: &str, arguments: &[&str]| {
            String::from_utf8(Command::new(program).args(arguments).output().unwrap().stdout).unwrap()
        };
        let mut cgroups = BTreeSet::new();
        list(Path::new("/sys/fs/cgroup"), &mut cgroups);
        let mut files = BTreeSet::new();
        list(&state.join("hosts"), &mut files);
        Self {
            mounts: fs::read_to_string("/proc/mounts").unwrap(),
            links: run("ip", &["-brief", "link"]),
            routes: run("ip", &["route"]),
            rules: run("nft", &["list", "ruleset"]),
            forwarding: fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(),
            cgroups,
            state: files,
            null: std::os::unix::fs::MetadataExt::mode(&fs::metadata("/dev/null").unwrap()),
        }
    }
}

/// All directories below `path`.
fn list(path: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&entry.path(), found);
            found.insert(entry.path());
        }
    }
}
