//! A clone has the original's disk, but its own identity.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use controller::{
    client, pki,
    provider::{Host, ImageSpec, Provider, local::Local},
};
use tests::{Fleet, binary, repository};

/// A host by name, from `ctl hosts`.
#[track_caller]
fn host(fleet: &Fleet, name: &str) -> Host {
    let hosts = fleet.json(&["hosts"]);
    let host = hosts.into_iter().find(|host| host["name"] == name).unwrap_or_else(|| panic!("no {name}"));
    serde_json::from_value(host).expect("a host")
}

/// Result of connecting to the host `at` as if it had the agent `id`.
fn speak(fleet: &Fleet, at: &Host, id: &str) -> Result<(), String> {
    let spec = ImageSpec { agent: binary("agent"), packages: Vec::new() };
    let local = Local::open(fleet.cloud(), binary("ctl"), spec).expect("the cloud");
    let trust = pki::Fleet::open(&fleet.directory().join(".magpie")).expect("the CA directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let deadline = Instant::now() + Duration::from_secs(10);
        let stream = local.dial_until(at, proto::PORT, deadline).await.expect("it listens");
        client::connect(stream, &trust, id).await.map(drop).map_err(|error| error.to_string())
    })
}

#[test]
fn a_clone_cannot_speak_as_the_original() {
    let fleet = Fleet::new(&repository("tests/fixtures/control"), &["quick"]);
    fleet.ok(&["provision", "--role", "quick"]);
    assert_eq!(fleet.ok(&["clone", "quick-1"]), "quick-2\n");
    let (original, clone) = (host(&fleet, "quick-1"), host(&fleet, "quick-2"));
    assert_eq!((clone.clone_of.as_deref(), clone.enrolled()), (Some("quick-1"), true));

    speak(&fleet, &original, &original.id).expect("the original goes on");
    speak(&fleet, &clone, &clone.id).expect("the clone has an identity of its own");
    let refused = speak(&fleet, &clone, &original.id).expect_err("it is not the original");
    assert!(refused.contains("another host"), "{refused}");
    speak(&fleet, &original, &clone.id).expect_err("nor the other way round");

    // The copied identity is in quarantine. Puppet's changes and the bundle are there without an apply.
    fleet.ok(&["run", "quick-2", "--", "sh", "-c", "test -e /var/lib/magpie/quarantine/*/identity.json"]);
    assert_eq!(fleet.ok(&["run", "quick-2", "--", "cat", "/etc/magpie-test"]), "role quick\n");
    let applied = fleet.json(&["apply", "quick-2"]);
    let recap = applied.iter().find(|line| line["type"] == "recap").expect("a recap");
    assert_eq!(recap["state"], "succeeded", "{recap}");
    assert!(recap["push"].as_str().expect("said").starts_with("sent 0 B of "), "{recap}");
    let runs = |name: &str| fleet.ok(&["runs", name]);
    assert!(runs("quick-1").contains("quick-1-") && !runs("quick-2").contains("quick-1-"));
}

#[test]
fn the_record_is_copied_when_it_is_asked_for() {
    let fleet = Fleet::new(&repository("tests/fixtures/control"), &["quick"]);
    fleet.ok(&["provision", "--role", "quick"]);
    fleet.ok(&["run", "quick-1", "--", "perl", "-e", "$0 = 'of-the-original'; sleep 4"]);
    fleet.ok(&["clone", "quick-1"]);
    fleet.ok(&["clone", "quick-1", "--with-record"]);
    let seen = |name: &str| {
        let begun = Instant::now();
        // A record without samples is an error, and the clone's recorder has just started.
        loop {
            let outcome = fleet.ctl(&["cpu-log", name, "--since", "1h", "--all", "--output", "json"]);
            if outcome.code == 0 {
                return outcome.stdout.contains("of-the-original");
            }
            assert!(
                outcome.stdout.contains("empty") && begun.elapsed() < Duration::from_secs(30),
                "{}",
                outcome.stdout
            );
        }
    };
    assert_eq!(["quick-1", "quick-2", "quick-3"].map(seen), [true, false, true]);
}

/// Cgroup of a host whose processes are frozen, if there is one.
fn frozen(tree: &Path, id: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(tree).ok()?.flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("magpie-")).find_map(|entry| {
        let group = entry.path().join(id);
        fs::read_to_string(group.join("cgroup.events")).ok()?.contains("frozen 1").then_some(group)
    })
}

#[test]
fn a_host_goes_on_when_its_cloning_is_killed() {
    let fleet = Fleet::new(&repository("tests/fixtures/control"), &["quick"]);
    fleet.ok(&["provision", "--role", "quick"]);
    let fill = "for n in 1 2 3 4 5; do head -c 200M /dev/zero > /srv/$n; done";
    fleet.ok(&["run", "quick-1", "--", "sh", "-c", fill]);
    let id = host(&fleet, "quick-1").id;
    let trees = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);

    let mut cloning = fleet.spawn(&["clone", "quick-1"]);
    let group = loop {
        assert!(cloning.try_wait().expect("asked").is_none(), "it was done before it could be killed");
        if let Some(group) = trees.iter().find_map(|tree| frozen(tree, &id)) {
            break group;
        }
    };
    cloning.kill().expect("killed");
    cloning.wait().expect("gone");
    fleet.ok(&["status", "quick-1"]);
    assert!(fs::read_to_string(group.join("cgroup.events")).expect("read").contains("frozen 0"));
    // A partial copy can be destroyed like any host.
    fleet.ok(&["destroy", "--yes", "quick-2"]);
    assert_eq!(fleet.json(&["hosts"]).len(), 1);
}
