//! The local provider with real parts: a baked image, real namespaces, systemd. Needs the network of
//! the machine's apt sources; where namespaces are refused, it says so and does nothing.
//!
//! The image is kept in the target directory, so only the first run bakes one.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
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

/// The cloud without what a broken-off run of these tests left.
async fn cloud() -> Option<Cloud> {
    let cloud = shared_cloud().await?;
    for host in cloud.local.hosts("test").await.unwrap() {
        cloud.local.destroy(&host).await.unwrap();
    }
    Some(cloud)
}

/// The cloud and its image, or `None` where this machine has no namespaces to give.
async fn shared_cloud() -> Option<Cloud> {
    let namespaces = Command::new("unshare").args(["--user", "--net", "true"]).status();
    if !namespaces.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this machine gives no namespaces");
        return None;
    }
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let state = base.join("local-provider");
    let local = Local::open(state.clone(), env!("CARGO_BIN_EXE_ctl").into()).unwrap();
    let agent = base.join("stand-in-agent");
    // Written once: another process of this test may be reading it.
    if fs::read_to_string(&agent).is_ok_and(|text| text != AGENT) || !agent.exists() {
        fs::write(&agent, AGENT).unwrap();
    }
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
async fn a_host_keeps_its_disk_over_a_stop_and_leaves_nothing_when_destroyed() {
    let _turn = TURN.lock().await;
    let Some(cloud) = cloud().await else { return };
    let before = Machine::now(&cloud.state);

    let began = Instant::now();
    let host = cloud.local.launch(&cloud.launch_of("db", "keeps", None)).await.unwrap();
    assert_eq!((host.name.as_str(), host.state), ("db-1", HostState::Running));
    cloud.connect(&host).await;
    eprintln!("port answers after {:?}", began.elapsed());
    assert_eq!(cloud.ask(&host, "systemctl is-system-running --wait").await, "running\n");
    assert_eq!(
        cloud.ask(&host, "stat -c '%a %U' /var/lib/magpie /var/lib/magpie/enrol.json").await,
        "700 root\n600 root\n"
    );
    let machine_id = cloud.ask(&host, "echo kept > /root/file; cat /etc/machine-id").await;
    assert!(cloud.local.console(&host).await.unwrap().contains("Started magpie-agent.service"));
    let again = cloud.local.launch(&cloud.launch_of("db", "keeps", None)).await.unwrap();
    assert_eq!(again, host, "one transaction, one host");

    let began = Instant::now();
    cloud.local.stop(&host).await.unwrap();
    eprintln!("stopped after {:?}", began.elapsed());
    assert_eq!(cloud.local.hosts("test").await.unwrap()[0].state, HostState::Stopped);
    let refused = cloud.local.dial(&host, PORT).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::HostUnreachable, "{refused}");
    let idle = Machine::now(&cloud.state);
    assert_eq!(Machine { state: before.state.clone(), ..idle }, before, "a stopped host is files, no more");

    let began = Instant::now();
    cloud.local.start(&host).await.unwrap();
    assert_eq!(cloud.ask(&host, "cat /root/file /etc/machine-id").await, format!("kept\n{machine_id}"));
    eprintln!("started after {:?}", began.elapsed());

    let began = Instant::now();
    cloud.local.destroy(&host).await.unwrap();
    eprintln!("destroyed after {:?}", began.elapsed());
    assert_eq!(Machine::now(&cloud.state), before);
    cloud.local.destroy(&host).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn root_inside_cannot_reach_out() {
    let _turn = TURN.lock().await;
    let Some(cloud) = cloud().await else { return };
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let addresses = String::from_utf8(Command::new("hostname").arg("-I").output().unwrap().stdout).unwrap();
    let own = addresses.split_whitespace().find(|address| !address.contains(':')).expect("an IPv4 address");

    let host = cloud.local.launch(&cloud.launch_of("web", "inside", None)).await.unwrap();
    let refused = |command: &str| format!("{command} >/dev/null 2>&1 && echo allowed || echo refused");
    for command in [
        "mount -t debugfs none /mnt",
        "chmod 600 /dev/null",
        "chown root /dev/zero",
        "mknod /tmp/disk b 254 0",
        "date -s 2000-01-01",
        "echo 1 > /proc/sys/kernel/panic",
        "echo b > /proc/sysrq-trigger",
        &format!("timeout 2 bash -c 'echo > /dev/tcp/{own}/{port}'"),
        &format!("timeout 2 bash -c 'echo > /dev/tcp/10.0.2.2/{port}'"),
    ] {
        assert_eq!(cloud.ask(&host, &refused(command)).await, "refused\n", "{command}");
    }
    assert_eq!(cloud.ask(&host, &refused("echo 1 > /proc/sys/net/ipv4/ip_forward")).await, "allowed\n");
    assert_eq!(cloud.ask(&host, &refused("apt-get update")).await, "allowed\n", "the way out is open");
    cloud.local.destroy(&host).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_limit_kills_a_hog_and_nobody_else() {
    let _turn = TURN.lock().await;
    let Some(cloud) = cloud().await else { return };
    let host = cloud.local.launch(&cloud.launch_of("hog", "limited", Some(200 << 20))).await.unwrap();
    let agent = cloud.ask(&host, "systemctl show -p MainPID magpie-agent").await;
    assert_eq!(cloud.local.oom_kills(&host), Some(0));
    let hog = cloud.ask(&host, "tail /dev/zero; echo $?").await;
    assert!(hog.ends_with("137\n"), "{hog}");
    assert_eq!(cloud.local.oom_kills(&host), Some(1));
    assert_eq!(cloud.ask(&host, "systemctl show -p MainPID magpie-agent").await, agent);
    cloud.local.destroy(&host).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_hosts_at_once() {
    let _turn = TURN.lock().await;
    let Some(cloud) = cloud().await else { return };
    let before = Machine::now(&cloud.state);
    let began = Instant::now();
    let cloud = std::sync::Arc::new(cloud);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20 {
        let cloud = std::sync::Arc::clone(&cloud);
        tasks.spawn(async move {
            let host =
                cloud.local.launch(&cloud.launch_of("many", &format!("many {number}"), None)).await.unwrap();
            assert_eq!(cloud.ask(&host, "hostname").await, format!("{}\n", host.name));
            host
        });
    }
    let hosts = tasks.join_all().await;
    eprintln!("20 hosts answer after {:?}", began.elapsed());
    let names: BTreeSet<_> = hosts.iter().map(|host| host.name.clone()).collect();
    assert_eq!(names, (1..=20).map(|number| format!("many-{number}")).collect());
    for host in &hosts {
        assert_eq!(cloud.ask(host, "systemctl is-system-running --wait").await, "running\n", "{}", host.name);
    }
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for host in hosts {
        let cloud = std::sync::Arc::clone(&cloud);
        tasks.spawn(async move { cloud.local.destroy(&host).await.unwrap() });
    }
    tasks.join_all().await;
    eprintln!("20 hosts destroyed after {:?}", began.elapsed());
    assert_eq!(Machine::now(&cloud.state), before);
}

/// Variable that tells a second process of this test which transaction to launch.
const TRANSACTION: &str = "MAGPIE_TEST_TRANSACTION";

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_at_once_get_two_names() {
    if let Ok(tid) = std::env::var(TRANSACTION) {
        let Some(cloud) = shared_cloud().await else { return };
        cloud.local.launch(&cloud.launch_of("pair", &tid, None)).await.unwrap();
        return;
    }
    let _turn = TURN.lock().await;
    let Some(cloud) = cloud().await else { return };
    let processes: Vec<_> = ["one", "two"]
        .map(|tid| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "two_processes_at_once_get_two_names"])
                .env(TRANSACTION, tid)
                .spawn()
                .unwrap()
        })
        .into();
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    let hosts = cloud.local.hosts("test").await.unwrap();
    let names: Vec<_> = hosts.iter().map(|host| host.name.as_str()).collect();
    assert_eq!(names, ["pair-1", "pair-2"]);
    for host in &hosts {
        assert_eq!(
            cloud.ask(host, "hostname").await,
            format!("{}\n", host.name),
            "it outlives who launched it"
        );
        cloud.local.destroy(host).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_dies_is_stopped_and_starts_again() {
    let _turn = TURN.lock().await;
    let Some(cloud) = cloud().await else { return };
    let before = Machine::now(&cloud.state);
    let host = cloud.local.launch(&cloud.launch_of("db", "dies", None)).await.unwrap();
    let unheard = cloud.local.dial(&host, 1).await.unwrap_err();
    assert_eq!(unheard.kind(), io::ErrorKind::ConnectionRefused, "{unheard}");
    cloud
        .ask(&host, "touch /root/file; (sleep 0.1; systemctl poweroff --force --force) >/dev/null 2>&1 &")
        .await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while cloud.local.hosts("test").await.unwrap()[0].state == HostState::Running {
        assert!(Instant::now() < deadline, "it does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    cloud.local.start(&host).await.unwrap();
    assert_eq!(cloud.ask(&host, "ls /root/file").await, "/root/file\n");
    cloud.local.destroy(&host).await.unwrap();
    assert_eq!(Machine::now(&cloud.state), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_fails_leaves_nothing() {
    let _turn = TURN.lock().await;
    let Some(cloud) = cloud().await else { return };
    let before = Machine::now(&cloud.state);
    // Less than any process can start in: init is killed or refused on its way.
    let failed = cloud.local.launch(&cloud.launch_of("small", "fails", Some(4096))).await.unwrap_err();
    assert!(failed.to_string().starts_with("cannot launch small-1: "), "{failed}");
    assert_eq!(Machine::now(&cloud.state), before);
    let unknown = Launch { image: ImageId("0-0".into()), ..cloud.launch_of("db", "unknown", None) };
    assert_eq!(cloud.local.launch(&unknown).await.unwrap_err().kind(), controller::error::Kind::Invalid);
    assert_eq!(Machine::now(&cloud.state), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_the_image_see_a_tree_and_change_nothing() {
    let _turn = TURN.lock().await;
    let Some(cloud) = cloud().await else { return };
    let tree = tempfile::tempdir().unwrap();
    let run = |argv: &[&str]| cloud.local.run_in_image(&cloud.image, tree.path(), argv);
    let set_mode = |mode| fs::set_permissions(tree.path(), fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o700);
    if nix::unistd::geteuid().is_root() {
        let closed = run(&["true"]).unwrap_err();
        assert!(closed.to_string().contains("mode 700"), "{closed}");
    }
    set_mode(0o755);
    fs::write(tree.path().join("good.pp"), "notify { 'hello': }\n").unwrap();
    fs::write(tree.path().join("bad.pp"), "notify {\n").unwrap();

    let began = Instant::now();
    let good = run(&["puppet", "parser", "validate", "good.pp"]).unwrap();
    eprintln!("validated after {:?}", began.elapsed());
    assert!(good.status.success(), "{good:?}");
    let bad = run(&["puppet", "parser", "validate", "/mnt/bad.pp"]).unwrap();
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("bad.pp"), "{bad:?}");
    let touched = run(&["sh", "-c", "touch /mnt/new 2>/dev/null || touch /etc/new && echo $?"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&touched.stdout), "0\n");
    assert_eq!(fs::read_dir(tree.path()).unwrap().count(), 2);
    assert!(run(&["no-such-program"]).unwrap_err().to_string().contains("no-such-program"));
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
    /// At home in the state directory: supervisors and holders.
    processes: usize,
    null: u32,
}

impl Machine {
    fn now(state: &Path) -> Self {
        let run = |program: &str, arguments: &[&str]| {
            String::from_utf8(Command::new(program).args(arguments).output().unwrap().stdout).unwrap()
        };
        let mut cgroups = BTreeSet::new();
        list(Path::new("/sys/fs/cgroup"), &mut cgroups);
        // Others on this machine make cgroups of their own; ours are named after the state directory.
        let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, state.as_os_str().as_encoded_bytes());
        let name: String = sum.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        cgroups.retain(|path| path.to_string_lossy().contains(&name));
        let mut files = BTreeSet::new();
        list(&state.join("hosts"), &mut files);
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("cwd"));
        let processes = processes.filter(|cwd| fs::read_link(cwd).is_ok_and(|cwd| cwd == state)).count();
        Self {
            processes,
            mounts: fs::read_to_string("/proc/mounts").unwrap(),
            links: run("ip", &["-brief", "link"]),
            routes: run("ip", &["route"]),
            rules: run("nft", &["list", "ruleset"]),
            forwarding: fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(),
            cgroups,
            state: files,
            null: fs::metadata("/dev/null").unwrap().mode(),
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
