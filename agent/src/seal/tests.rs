use std::os::unix::fs::symlink;

use super::*;

const ROOT: &str = "/var/lib/magpie";

/// Files of a used machine that must be removed; below: files that an image may keep.
const USED: &[&str] = &[
    "var/lib/magpie/state/host.key",
    "var/lib/magpie/state/claim.pb",
    "var/lib/magpie/state.new/host.key",
    "var/lib/magpie/quarantine/1/host.key",
    "var/lib/magpie/enrol.json",
    "var/lib/magpie/limits.json",
    "var/lib/magpie/runs/.apply.lock",
    "var/lib/magpie/bundles/abc/manifest",
    "var/lib/magpie/history/1.blocks",
    "var/lib/magpie/puppet/state.yaml",
    "var/lib/puppet/ssl/private_keys/a.pem",
    "etc/puppetlabs/puppet/ssl/private_keys/a.pem",
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_ed25519_key.pub",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "var/lib/cloud/instances/i-1/user-data.txt",
    "var/lib/cloud/data/instance-id",
    "var/log/cloud-init-output.log",
    "var/log/journal/0123/system.journal",
    "root/.bash_history",
    "home/ada/.zsh_history",
];
const KEPT: &[&str] = &[
    "etc/ssh/sshd_config",
    "etc/cloud/cloud.cfg",
    "var/lib/apt/lists/a",
    "var/lib/systemd/timers/a",
    "home/ada/notes",
    "usr/lib/magpie/agent",
];

fn machine() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let tree = directory.path().canonicalize().expect("it is there");
    for path in USED.iter().chain(KEPT).chain(&["etc/machine-id"]) {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, "something").expect("written");
    }
    fs::create_dir_all(tree.join("var/lib/dbus")).expect("made");
    symlink("/etc/machine-id", tree.join("var/lib/dbus/machine-id")).expect("linked");
    (directory, tree)
}

fn run(tree: &Path, mode: Mode) -> (Result<(), SealError>, Vec<String>) {
    let mut out = Vec::new();
    let done = seal(tree, Path::new(ROOT), mode, &mut out);
    let text = String::from_utf8(out).expect("UTF-8");
    (
        done,
        text.lines().map(|line| line.trim_start_matches(tree.to_str().expect("UTF-8")).to_owned()).collect(),
    )
}

#[test]
fn what_tells_a_machine_from_others_goes_and_the_rest_stays() {
    let (_directory, tree) = machine();
    let (done, planned) = run(&tree, Mode::DryRun);
    done.expect("planned");
    assert!(USED.iter().all(|path| tree.join(path).exists()), "a dry run changes nothing");
    for path in USED {
        let covered = planned.iter().any(|planned| Path::new("/").join(path).starts_with(planned));
        assert!(covered, "{path} is not in the plan");
    }
    let (done, sealed) = run(&tree, Mode::Seal);
    done.expect("sealed");
    assert_eq!(sealed, planned, "the plan is what is done");
    for path in USED.iter().chain(&["var/lib/dbus/machine-id"]) {
        assert!(tree.join(path).symlink_metadata().is_err(), "{path} is still there");
    }
    assert!(KEPT.iter().all(|path| tree.join(path).exists()));
    assert_eq!(fs::read(tree.join("etc/machine-id")).expect("it stays"), b"");
    for mode in [Mode::DryRun, Mode::Seal, Mode::Check] {
        let (done, rest) = run(&tree, mode);
        assert!(done.is_ok() && rest.is_empty(), "{mode:?} finds nothing more: {rest:?}");
    }
}

#[test]
fn the_check_names_what_identifies() {
    for (path, identifies) in [
        ("var/lib/magpie/state/host.key", true),
        ("var/lib/magpie/enrol.json", true),
        ("etc/ssh/ssh_host_rsa_key", true),
        ("etc/machine-id", true),
        ("var/lib/magpie/runs/r-1/result.pb", false),
        ("var/log/journal/0123/system.journal", false),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let tree = directory.path().canonicalize().expect("it is there");
        let path = tree.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(&path, "something").expect("written");
        let (done, listed) = run(&tree, Mode::Check);
        assert_eq!(matches!(done, Err(SealError::Identified(1))), identifies, "{listed:?}");
        assert_eq!(listed.len(), usize::from(identifies));
        assert!(path.exists());
    }
}

#[test]
fn a_machine_id_that_is_still_to_be_made_identifies_nothing() {
    let (_directory, tree) = machine();
    run(&tree, Mode::Seal).0.expect("sealed");
    fs::write(tree.join("etc/machine-id"), "uninitialized\n").expect("written");
    assert!(run(&tree, Mode::Check).0.is_ok());
}

#[test]
fn directories_that_packages_leave_identify_nothing() {
    let (_directory, tree) = machine();
    run(&tree, Mode::Seal).0.expect("sealed");
    fs::create_dir_all(tree.join("var/lib/puppet/ssl/private_keys")).expect("made");
    assert!(run(&tree, Mode::Check).0.is_ok());
    fs::create_dir_all(tree.join("var/lib/magpie/state")).expect("made");
    assert!(run(&tree, Mode::Check).0.is_err(), "but the agent would not start with half an identity");
}

#[test]
fn nothing_outside_of_the_tree_is_touched() {
    let (_directory, tree) = machine();
    let outside = tempfile::tempdir().expect("a directory");
    fs::create_dir(outside.path().join("state")).expect("made");
    fs::remove_dir_all(tree.join("var/lib/magpie")).expect("removed");
    symlink(outside.path(), tree.join("var/lib/magpie")).expect("linked");
    let (done, _) = run(&tree, Mode::Seal);
    assert!(matches!(done, Err(SealError::Outside { .. })), "{done:?}");
    assert!(outside.path().join("state").exists());
    assert!(tree.join("root/.bash_history").exists(), "nor anything else");
}

#[test]
fn a_link_goes_and_not_what_it_leads_to() {
    let (_directory, tree) = machine();
    let outside = tempfile::tempdir().expect("a directory");
    fs::write(outside.path().join("a"), "").expect("written");
    fs::remove_dir_all(tree.join("var/lib/magpie/history")).expect("removed");
    symlink(outside.path(), tree.join("var/lib/magpie/history")).expect("linked");
    run(&tree, Mode::Seal).0.expect("sealed");
    assert!(outside.path().join("a").exists());
    assert!(tree.join("var/lib/magpie/history").symlink_metadata().is_err());
}

#[test]
fn an_apply_under_way_is_waited_for_by_the_caller() {
    let (_directory, tree) = machine();
    let lock = fs::File::open(tree.join("var/lib/magpie/runs/.apply.lock")).expect("opened");
    let _held = Flock::lock(lock, FlockArg::LockExclusive).expect("locked");
    assert!(matches!(run(&tree, Mode::Seal).0, Err(SealError::Busy)));
    assert!(tree.join("var/lib/magpie/state").exists());
}
