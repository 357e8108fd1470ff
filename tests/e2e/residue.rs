//! A host leaves the machine unchanged, while it runs and after it is destroyed.

use std::{collections::BTreeSet, fs, process::Command};

use tests::{Fleet, repository};

/// State of the machine that a role could change.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    mounts: BTreeSet<String>,
    interfaces: BTreeSet<String>,
    routes: String,
    firewall: String,
    forwarding: String,
    cgroups: BTreeSet<String>,
    device_nodes: String,
}

impl Machine {
    fn now() -> Self {
        Self {
            mounts: fs::read_to_string("/proc/self/mounts")
                .expect("mounts")
                .lines()
                .map(str::to_owned)
                .collect(),
            interfaces: names("/sys/class/net"),
            routes: said("ip", &["route"]),
            firewall: said("nft", &["list", "ruleset"]),
            forwarding: fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("sysctl"),
            cgroups: said("find", &["/sys/fs/cgroup", "-type", "d", "-name", "*magpie*"])
                .lines()
                .map(str::to_owned)
                .collect(),
            device_nodes: said(
                "ls",
                &["-l", "/dev/null", "/dev/zero", "/dev/tty", "/dev/urandom", "/dev/net/tun"],
            ),
        }
    }
}

fn names(directory: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).expect("readable");
    entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect("runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Processes of the machine whose command line or working files name this cloud.
fn processes_of(cloud: &str) -> Vec<String> {
    said("ps", &["-eo", "pid,args"]).lines().filter(|line| line.contains(cloud)).map(str::to_owned).collect()
}

#[test]
fn a_host_changes_nothing_on_the_machine_and_leaves_nothing() {
    let before = Machine::now();
    let fleet = Fleet::new(&repository("tests/fixtures/control"), &["quick"]);
    fleet.ok(&["provision", "--role", "quick", "--count", "2"]);

    let during = Machine::now();
    assert_eq!(
        (
            &before.interfaces,
            &before.routes,
            &before.firewall,
            &before.forwarding,
            &before.device_nodes,
            &before.mounts
        ),
        (
            &during.interfaces,
            &during.routes,
            &during.firewall,
            &during.forwarding,
            &during.device_nodes,
            &during.mounts
        ),
    );

    fleet.ok(&["destroy", "--yes", "quick-1", "quick-2"]);
    assert_eq!(before, Machine::now());
    let cloud = fleet.cloud();
    assert_eq!(processes_of(&cloud.to_string_lossy()), Vec::<String>::new());
    let hosts = fs::read_dir(cloud.join("hosts")).map(|entries| entries.count()).unwrap_or(0);
    assert_eq!(hosts, 0, "files of destroyed hosts are left");
}
