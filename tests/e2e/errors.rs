//! User errors: each gives a sentence with cause and hint and the right exit code, and leaves nothing half done.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tests::{Fleet, Outcome, binary, repository};

#[track_caller]
fn says(outcome: &Outcome, parts: &[&str]) {
    for part in parts {
        assert!(outcome.stderr.contains(part), "{part:?} is not in:\n{}", outcome.stderr);
    }
    assert!(outcome.stderr.starts_with("error: "), "{}", outcome.stderr);
}

/// Replaces the fleet's bundle with another tree.
fn push_instead(fleet: &Fleet, tree: &Path) {
    let file = fleet.directory().join("magpie.toml");
    let config = fs::read_to_string(&file).expect("read");
    let old = repository("tests/fixtures/control");
    fs::write(&file, config.replace(&*old.to_string_lossy(), &tree.to_string_lossy())).expect("written");
}

#[test]
fn without_a_fleet() {
    let empty = tempfile::tempdir().expect("a directory");
    let output = Command::new(binary("ctl")).arg("hosts").current_dir(empty.path()).output().expect("runs");
    let outcome = Outcome::from(output);
    assert_eq!(outcome.code, 2);
    says(&outcome, &["no magpie.toml", "hint: `ctl init`"]);
}

/// Files in a parent directory may belong to anyone, as in /tmp.
#[test]
fn with_the_configuration_of_somebody_else() {
    let fleet = Fleet::new(&repository("tests/fixtures/control"), &["quick"]);
    let (file, ca, ran) = (
        fleet.directory().join("magpie.toml"),
        fleet.directory().join(".magpie"),
        fleet.directory().join("ran"),
    );
    let config = fs::read_to_string(&file).expect("read");
    let prepare = format!("[bundle]\nprepare = \"touch {}\"\n", ran.display());
    fs::write(&file, config.replace("[bundle]\n", &prepare)).expect("written");
    let (nobody, root) = (Some(65534), Some(0));
    let own = |path: &Path, user| std::os::unix::fs::chown(path, user, None).expect("changed");

    own(&file, nobody);
    let hint = format!("hint: if you trust it: `ctl --config {} …`", file.display());
    says(
        &fleet.exits(2, &["bundle", "show"]),
        &["magpie.toml belongs to nobody, who could run commands as you", &hint],
    );
    assert!(!ran.exists(), "nothing of it was run");
    fleet.ok(&["bundle", "show", "--config", &file.to_string_lossy()]);
    assert!(ran.exists());

    own(&file, root);
    own(&ca, nobody);
    says(&fleet.exits(2, &["hosts"]), &[".magpie belongs to nobody"]);
    own(&ca, root);
    fleet.ok(&["hosts"]);
}

#[test]
fn before_anything_is_launched() {
    let fleet = Fleet::new(&repository("tests/fixtures/control"), &["quick"]);
    says(&fleet.exits(2, &["provision", "--role", "quikc"]), &["quikc", "known roles: quick"]);
    says(&fleet.exits(2, &["provision", "--role", "quick", "--rev", "no-such-rev"]), &["no-such-rev"]);
    says(
        &fleet.exits(2, &["provision", "--role", "quick", "--memory", "5"]),
        &["5 B is too little", "a host needs 32 MiB to boot", "5G?"],
    );
    says(&fleet.exits(2, &["apply", "quick-7"]), &["no host \"quick-7\""]);
    let unnamed = fleet.exits(2, &["apply"]);
    says(
        &unnamed,
        &["apply changes hosts, so you must name them", "hint: `ctl apply HOST…`, ", "`ctl apply --all`"],
    );
    let nobody = fleet.exits(2, &["--as", "nosuch", "status"]);
    says(&nobody, &["there is no user \"nosuch\" in ", "hint: known users: "]);

    let broken = fleet.directory().join("broken");
    fs::create_dir_all(broken.join("manifests")).expect("made");
    fs::write(broken.join("manifests/site.pp"), "file { '/etc/motd': ensure => \n").expect("written");
    push_instead(&fleet, &broken);
    says(&fleet.exits(2, &["provision", "--role", "quick"]), &["manifests/site.pp"]);
    assert_eq!(fleet.json(&["hosts"]).len(), 0, "a typo costs no machine");
}

#[test]
fn hosts_that_cannot_be_proved_or_reached() {
    let fleet = Fleet::new(&repository("tests/fixtures/control"), &["quick"]);
    fleet.ok(&["provision", "--role", "quick"]);

    // The CA directory of another fleet.
    let other = tempfile::tempdir().expect("a directory");
    let init =
        Command::new(binary("ctl")).args(["init", "--name", "other"]).current_dir(other.path()).status();
    assert!(init.expect("runs").success());
    let (ours, aside) = (fleet.directory().join(".magpie"), fleet.directory().join("aside"));
    fs::rename(&ours, &aside).expect("moved");
    let copied = Command::new("cp").arg("-a").arg(other.path().join(".magpie")).arg(&ours).status();
    assert!(copied.expect("runs").success());
    let fleet_json = fs::read(aside.join("fleet.json")).expect("read");
    fs::write(ours.join("fleet.json"), fleet_json).expect("written");
    fleet.ok(&["user", "issue", "root", "--role", "admin"]);
    says(&fleet.exits(3, &["status", "quick-1"]), &["quick-1"]);
    fs::remove_dir_all(&ours).expect("removed");
    fs::rename(&aside, &ours).expect("moved back");
    fleet.ok(&["status", "quick-1"]);

    // An agent that does not answer.
    fleet.ok(&["run", "quick-1", "--", "systemd-run", "sh", "-c", "sleep 1; systemctl stop magpie-agent"]);
    let deadline = Instant::now() + Duration::from_secs(30);
    let unreachable = loop {
        let outcome = fleet.ctl(&["status", "quick-1"]);
        // While it stops, it may still accept a connection and drop it.
        if outcome.stderr.contains("717") || Instant::now() > deadline {
            break outcome;
        }
    };
    assert_eq!(unreachable.code, 3, "{unreachable:?}");
    says(&unreachable, &["quick-1", "717"]);
}

#[test]
fn a_full_disk_refuses_the_bundle_before_it_is_written() {
    let fleet = Fleet::new(&repository("tests/fixtures/control"), &["quick"]);
    fleet.ok(&["provision", "--role", "quick"]);
    fleet.ok(&[
        "run",
        "quick-1",
        "--",
        "sh",
        "-c",
        "mount -t tmpfs -o size=16k tmpfs /var/lib/magpie/bundles && systemctl restart magpie-agent",
    ]);
    let tree = fleet.directory().join("bigger");
    let copied = Command::new("cp").arg("-a").arg(repository("tests/fixtures/control")).arg(&tree).status();
    assert!(copied.expect("runs").success());
    fs::write(tree.join("data/large"), vec![7u8; 1 << 20]).expect("written");
    push_instead(&fleet, &tree);
    says(&fleet.exits(1, &["apply", "quick-1"]), &["quick-1", "disk"]);
    fleet.ok(&[
        "run",
        "quick-1",
        "--",
        "sh",
        "-c",
        "systemctl stop magpie-agent; umount /var/lib/magpie/bundles; systemctl start magpie-agent",
    ]);
    fleet.ok(&["apply", "quick-1"]);
}

#[test]
fn what_is_taken_or_gone_is_named() {
    let fleet = Fleet::new(&repository("tests/fixtures/control"), &["quick"]);
    fleet.ok(&["provision", "--role", "quick"]);

    // A second agent on the host: the port is in use.
    let taken = fleet.exits(1, &["run", "quick-1", "--", "/usr/lib/magpie/agent", "serve"]);
    assert!(taken.stderr.contains("cannot listen on 0.0.0.0:717"), "{taken:?}");

    // A stopped host is reported as stopped. Without its image it cannot start.
    fleet.ok(&["stop", "quick-1"]);
    says(&fleet.exits(3, &["status", "quick-1"]), &["quick-1 is stopped", "hint: `ctl start quick-1`"]);
    says(
        &fleet.exits(3, &["status"]),
        &["no running host", "hint: `ctl start quick-1` boots the stopped one"],
    );
    let images = fleet.cloud().join("images");
    fs::remove_file(&images).expect("the link to the shared images is removed");
    fs::create_dir(&images).expect("made");
    says(&fleet.exits(2, &["start", "quick-1"]), &["no image", "hint: "]);
}
