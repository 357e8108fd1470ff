//! The local provider with real parts: a baked image, real namespaces, systemd. Needs the network of
//! the machine's apt sources; where namespaces are refused, it says so and does nothing.
//!
//! The image is kept in the target directory, so only the first run bakes one.

mod copy;
mod machine;
mod stand_ins;

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use controller::{
    config::RoleConfig,
    provider::{
        Fingerprint, Host, HostState, ImageId, ImageSpec, Launch, Provider, Stream, Usage, local::Local,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Mutex,
};

use self::{
    machine::Machine,
    stand_ins::{AGENT, stand_ins},
};

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
    let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join("local-provider");
    let began = Instant::now();
    let spec = ImageSpec { agent: stand_ins(), packages: Vec::new() };
    let local = Local::open(state.clone(), env!("CARGO_BIN_EXE_ctl").into(), spec.clone()).unwrap();
    let image = local.bake(&spec, &|step| eprintln!("bake: {step}")).await.unwrap();
    eprintln!("image after {:?}", began.elapsed());
    Some(Cloud { local, image, state })
}

impl Cloud {
    fn launch_of(&self, role: &str, tid: &str, memory: Option<u64>) -> Launch {
        Launch {
            fleet: "test".into(),
            role: role.into(),
            name: String::new(),
            tid: tid.into(),
            image: self.image.clone(),
            settings: RoleConfig { memory, ..RoleConfig::default() },
            usage: Usage::default(),
            fingerprint: Fingerprint::default(),
            clone_of: None,
            enrol_document: b"{\"v\":1}".to_vec(),
        }
    }

    async fn connect(&self, host: &Host) -> Stream {
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
    let refused = cloud.local.dial_until(&host, PORT, Instant::now()).await.map(drop).unwrap_err();
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
    let refused = |command: &str| format!("( {command} ) >/dev/null 2>&1 && echo allowed || echo refused");
    for command in [
        "mount -t debugfs none /mnt",
        "mknod /tmp/disk b 254 0",
        "mknod /dev/mem c 1 1",
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
async fn device_nodes_are_the_hosts_own() {
    let _turn = TURN.lock().await;
    let Some(cloud) = cloud().await else { return };
    let nodes = ["null", "zero", "full", "random", "urandom", "tty"].map(|name| format!("/dev/{name}"));
    let describe = format!("stat -c '%n %F %t,%T %a %d-%i' {}", nodes.join(" "));
    let machine = Command::new("sh").args(["-c", &describe]).output().unwrap();
    let machine = String::from_utf8(machine.stdout).unwrap();
    let mounts = fs::read_to_string("/proc/mounts").unwrap();

    let host = cloud.local.launch(&cloud.launch_of("dev", "nodes", None)).await.unwrap();
    let in_host = cloud.ask(&host, &describe).await;
    let ran = cloud.local.run_in_image(&cloud.image, Path::new("/usr"), &["sh", "-c", &describe]).unwrap();
    for inside in [in_host, String::from_utf8(ran.stdout).unwrap()] {
        for (ours, theirs) in inside.lines().zip(machine.lines()) {
            let (number, inode) = ours.rsplit_once(' ').unwrap();
            let (machines_number, machines_inode) = theirs.rsplit_once(' ').unwrap();
            assert_eq!(number, machines_number);
            if nix::unistd::geteuid().is_root() {
                assert_ne!(inode, machines_inode, "{ours} is the machine's own");
            }
        }
        assert_eq!(inside.lines().count(), nodes.len(), "{inside}");
    }
    cloud.ask(&host, "chmod 600 /dev/full; chown daemon /dev/full; echo >/dev/null").await;
    assert_eq!(cloud.ask(&host, "head -c 3 /dev/zero | od -An -tx1").await, " 00 00 00\n");
    let after = Command::new("sh").args(["-c", &describe]).output().unwrap();
    assert_eq!(String::from_utf8(after.stdout).unwrap(), machine, "nothing done inside is seen outside");
    assert_eq!(fs::read_to_string("/proc/mounts").unwrap(), mounts);
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
    let unheard = cloud.local.dial_until(&host, 1, Instant::now()).await.map(drop).unwrap_err();
    assert_eq!(unheard.kind(), io::ErrorKind::ConnectionRefused, "{unheard}");
    cloud
        .ask(
            &host,
            "touch /root/file; systemd-run --quiet sh -c 'sleep 0.1; systemctl poweroff --force --force'",
        )
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

/// The process that a host's life hangs on, as its state directory tells it.
fn supervisor(cloud: &Cloud, host: &Host) -> i32 {
    pids(cloud, host)[0]
}

/// The supervisor of a running host, its init, and the keeper of this boot, which is in the cloud's network.
fn pids(cloud: &Cloud, host: &Host) -> [i32; 3] {
    let pids = fs::read_to_string(cloud.state.join("hosts").join(&host.id).join("running")).unwrap();
    let pids: Vec<i32> = pids.split(' ').map(|pid| pid.trim().parse().unwrap()).collect();
    pids.try_into().unwrap()
}

/// Returns when the supervisor is gone, which is before the last of its host is.
async fn kill_supervisor(cloud: &Cloud, host: &Host) {
    let pid = nix::unistd::Pid::from_raw(supervisor(cloud, host));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let running = cloud.state.join("hosts").join(&host.id).join("running");
    eventually("it survives SIGKILL", || fs::File::open(&running).unwrap().try_lock_shared().is_ok()).await;
}

/// Processes that have a host's file system in their mount namespace.
fn mounted_by(host: &Host) -> Vec<PathBuf> {
    let upper = format!("hosts/{}/upper", host.id);
    let holds = |path: &PathBuf| fs::read_to_string(path).is_ok_and(|text| text.contains(&upper));
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.path().join("mountinfo"))
        .filter(holds)
        .collect()
}

/// Waits for the kernel to do what it does in its own time.
async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_supervisor_takes_its_host_along_and_no_more() {
    let _turn = TURN.lock().await;
    let Some(cloud) = cloud().await else { return };
    let before = Machine::now(&cloud.state);
    let other = cloud.local.launch(&cloud.launch_of("web", "stays", None)).await.unwrap();
    cloud.connect(&other).await;
    let (only_other, alone) = (Machine::now(&cloud.state).without(&other), ports(&cloud, &other));
    assert_eq!(alone.len(), 1, "{alone:?}");

    let host = cloud.local.launch(&cloud.launch_of("db", "killed", None)).await.unwrap();
    cloud.ask(&host, "touch /root/file; sync").await;
    assert_eq!((ports(&cloud, &other).len(), mounted_by(&host).is_empty()), (2, false));
    kill_supervisor(&cloud, &host).await;
    let unreachable = cloud.local.dial_until(&host, PORT, Instant::now()).await.map(drop).unwrap_err();
    assert_eq!(unreachable.kind(), io::ErrorKind::HostUnreachable, "{unreachable}");
    let hosts = cloud.local.hosts("test").await.unwrap();
    assert_eq!([hosts[0].state, hosts[1].state], [HostState::Stopped, HostState::Running]);
    eventually("its file system stays mounted", || mounted_by(&host).is_empty()).await;
    eventually("its interface stays", || ports(&cloud, &other) == alone).await;
    let after = Machine::now(&cloud.state).without(&other);
    assert_eq!(Machine { state: only_other.state.clone(), ..after }, only_other, "only its disk is left");
    assert_eq!(cloud.ask(&other, "hostname").await, "web-1\n");

    cloud.local.start(&host).await.unwrap();
    assert_eq!(cloud.ask(&host, "ls /root/file").await, "/root/file\n");
    kill_supervisor(&cloud, &host).await;
    cloud.local.start(&host).await.unwrap();
    assert_eq!(cloud.ask(&host, "ls /root/file").await, "/root/file\n", "at once, without a look first");
    kill_supervisor(&cloud, &host).await;
    cloud.local.destroy(&host).await.unwrap();
    assert_eq!(Machine::now(&cloud.state).without(&other), only_other);

    kill_supervisor(&cloud, &other).await;
    cloud.local.hosts("test").await.unwrap();
    let after = Machine::now(&cloud.state);
    assert_eq!(Machine { state: before.state.clone(), ..after }, before, "the cloud went with its last host");
    cloud.local.destroy(&other).await.unwrap();
    assert_eq!(Machine::now(&cloud.state), before);
}

/// The hosts' ports on the bridge, seen from the cloud that `host` runs in.
fn ports(cloud: &Cloud, host: &Host) -> Vec<String> {
    let [_, _, pid] = pids(cloud, host);
    let output = Command::new("nsenter")
        .args([&format!("--user=/proc/{pid}/ns/user"), &format!("--net=/proc/{pid}/ns/net")])
        .args(["ip", "-oneline", "link", "show", "type", "veth"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect()
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

/// Variable that tells a second process of this test which state directory to use.
const STATE: &str = "MAGPIE_TEST_STATE";

/// In a second process: launches a host there, baking first if need be, and prints what is wrong.
async fn fail_to_launch(state: PathBuf) {
    let spec = ImageSpec { agent: "/nonexistent".into(), packages: Vec::new() };
    let local = Local::open(state, env!("CARGO_BIN_EXE_ctl").into(), spec).unwrap();
    let launched = async {
        let image = local.bake(&ImageSpec { agent: stand_ins(), packages: Vec::new() }, &|_| {}).await?;
        let cloud = Cloud { local: local.clone(), image, state: PathBuf::new() };
        local.launch(&cloud.launch_of("db", "wanting", None)).await
    };
    let error = launched.await.unwrap_err();
    println!("<{error}> <{}>", error.hints().join("; "));
}

/// What a launch says in a process that `launcher` starts.
fn failed_launch(launcher: &mut Command, state: &Path, test: &str) -> String {
    let launcher = launcher.args(["--exact", "--nocapture", test]).env(STATE, state);
    let output = launcher.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A directory for PATH with all of the machine's programs but one.
fn path_without(missing: &str) -> tempfile::TempDir {
    let path = tempfile::tempdir().unwrap();
    for program in ["/usr/bin", "/usr/sbin"].iter().flat_map(|bin| fs::read_dir(bin).unwrap().flatten()) {
        if program.file_name() != missing {
            // Some are in both.
            drop(std::os::unix::fs::symlink(program.path(), path.path().join(program.file_name())));
        }
    }
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_programs_are_named_with_their_packages() {
    if let Some(state) = std::env::var_os(STATE) {
        return fail_to_launch(state.into()).await;
    }
    let _turn = TURN.lock().await;
    let Some(cloud) = cloud().await else { return };
    let (before, nothing) = (Machine::now(&cloud.state), tempfile::tempdir().unwrap());
    for (program, package, state, doing) in [
        (
            "slirp4netns",
            "slirp4netns",
            cloud.state.as_path(),
            "cannot launch db-1: cannot start the local cloud",
        ),
        ("nft", "nftables", &cloud.state, "cannot launch db-1: cannot start the local cloud"),
        ("ip", "iproute2", &cloud.state, "cannot launch db-1: cannot start the local cloud"),
        ("mmdebstrap", "mmdebstrap", nothing.path(), "cannot bake a base"),
    ] {
        let path = path_without(program);
        let mut launcher = Command::new(std::env::current_exe().unwrap());
        launcher.env("PATH", path.path());
        let said = failed_launch(&mut launcher, state, "missing_programs_are_named_with_their_packages");
        let expected = format!("<{doing}: the program {program} is not installed> <apt install {package}>");
        assert!(said.contains(&expected), "{said}");
    }
    assert_eq!(Machine::now(&cloud.state), before);
    assert_eq!(fs::read_dir(nothing.path().join("bases")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_cannot_carry_disks_is_named() {
    if let Some(state) = std::env::var_os(STATE) {
        return fail_to_launch(state.into()).await;
    }
    let _turn = TURN.lock().await;
    let Some(cloud) = cloud().await else { return };
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can mount an overlay as the state directory");
        return;
    }
    let before = Machine::now(&cloud.state);
    let layers = tempfile::tempdir_in(cloud.state.parent().unwrap()).unwrap();
    fs::set_permissions(layers.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let state = layers.path().join("state");
    for name in ["upper", "work", "state"] {
        fs::create_dir(layers.path().join(name)).unwrap();
    }
    // The whole state directory once more, images and all, as a container would have it.
    let mut launcher = Command::new("unshare");
    launcher
        .args(["--mount", "sh", "-ec"])
        .arg("mount -t overlay overlay -o lowerdir=$1,upperdir=$2/upper,workdir=$2/work $2/state; shift 2; exec \"$@\"")
        .args([Path::new("sh"), &cloud.state, layers.path(), &std::env::current_exe().unwrap()]);
    let said = failed_launch(&mut launcher, &state, "a_state_directory_that_cannot_carry_disks_is_named");
    let expected = format!("cannot launch db-1: the state directory {} is on an overlay", state.display());
    assert!(said.contains(&expected) && said.contains("in [local] of magpie.toml"), "{said}");
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

#[tokio::test(flavor = "multi_thread")]
async fn old_images_go_when_no_host_uses_them() {
    let _turn = TURN.lock().await;
    let Some(cloud) = cloud().await else { return };
    let agents = tempfile::tempdir().unwrap();
    let bake = async |number: u32| {
        let agent = agents.path().join("agent");
        // Never the same as one of an earlier run.
        fs::write(&agent, format!("{AGENT}# {number} {}\n", agents.path().display())).unwrap();
        fs::write(agents.path().join("recorder"), "#!/bin/sh\n").unwrap();
        cloud.local.bake(&ImageSpec { agent, packages: Vec::new() }, &|_| {}).await.unwrap()
    };
    let used = bake(0).await;
    let launch = Launch { image: used.clone(), ..cloud.launch_of("db", "uses", None) };
    let host = cloud.local.launch(&launch).await.unwrap();
    cloud.local.stop(&host).await.unwrap();
    let interrupted = cloud.state.join("images/0-0.new");
    fs::create_dir(&interrupted).unwrap();
    let mut baked = Vec::new();
    for number in 1..=4 {
        baked.push(bake(number).await);
    }
    let kept = cloud.local.images().unwrap();
    assert!(!kept.contains(&baked[0]) && baked[1..].iter().chain([&used]).all(|image| kept.contains(image)));
    assert_eq!((kept.len(), interrupted.exists()), (4, false));
    cloud.local.start(&host).await.unwrap();
    assert_eq!(cloud.ask(&host, "hostname").await, "db-1\n");
    cloud.local.destroy(&host).await.unwrap();
    bake(5).await;
    assert!(!cloud.local.images().unwrap().contains(&used));
}
