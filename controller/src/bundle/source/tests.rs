use std::{os::unix::fs::symlink, process::Command};

use super::*;

/// A git repository with the Puppet code in `puppet/`, committed once.
fn repository() -> TempDir {
    let temp = tempfile::tempdir().expect("a directory");
    let code = temp.path().join("puppet");
    fs::create_dir_all(code.join("manifests")).expect("directories");
    fs::write(code.join("manifests/site.pp"), "node default {}\n").expect("a file");
    fs::write(code.join("run.sh"), "#!/bin/sh\n").expect("a file");
    fs::set_permissions(code.join("run.sh"), PermissionsExt::from_mode(0o700)).expect("a mode");
    symlink("manifests/site.pp", code.join("site.pp")).expect("a link");
    fs::write(temp.path().join(".gitignore"), "*.log\nmodules/\n").expect("a file");
    fs::write(temp.path().join("outside"), "not in the bundle").expect("a file");
    git(temp.path(), "init -q -b main .");
    git(temp.path(), "config user.email eva@example.org");
    git(temp.path(), "config user.name Eva");
    git(temp.path(), "add .");
    git(temp.path(), "commit -q -m first");
    temp
}

fn git(directory: &Path, arguments: &str) -> String {
    let output =
        Command::new("git").args(arguments.split(' ')).current_dir(directory).output().expect("git runs");
    assert!(output.status.success(), "git {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

fn working(temp: &TempDir, prepare: Option<&str>) -> Result<Bundle> {
    from_working_tree(&temp.path().join("puppet"), prepare, SystemTime::now())
}

fn revision(temp: &TempDir, revision: &str, prepare: Option<&str>) -> Result<Bundle> {
    from_revision(&temp.path().join("puppet"), revision, prepare, SystemTime::now())
}

fn paths(bundle: &Bundle) -> Vec<&str> {
    bundle.manifest().entries().iter().map(|entry| entry.path.as_str()).collect()
}

#[test]
fn a_clean_checkout_and_its_revision_are_one_bundle() {
    let temp = repository();
    fs::create_dir(temp.path().join("puppet/empty")).expect("a directory");
    fs::write(temp.path().join("puppet/x.log"), "ignored by a file above the tree").expect("a file");
    let (now, then) =
        (working(&temp, None).expect("a bundle"), revision(&temp, "main", None).expect("a bundle"));
    assert_eq!(paths(&now), ["manifests", "manifests/site.pp", "run.sh", "site.pp"]);
    assert_eq!(now.digest(), then.digest());
    assert_eq!(now.provenance().commit, git(temp.path(), "rev-parse HEAD"));
    assert_eq!(then.provenance().commit, now.provenance().commit);
    assert_eq!(now.provenance().who, "eva@example.org");
    assert_eq!(now.provenance().dirty, Vec::<String>::new());
    assert!(now.manifest().files().any(|(path, executable, _)| path == "run.sh" && executable));
}

#[test]
fn what_differs_from_the_commit_is_named() {
    let temp = repository();
    fs::write(temp.path().join("puppet/manifests/site.pp"), "changed\n").expect("a file");
    fs::write(temp.path().join("puppet/new file"), "untracked\n").expect("a file");
    fs::write(temp.path().join("outside"), "changed, and not in the bundle").expect("a file");
    let status = git(temp.path(), "status --porcelain");
    let bundle = working(&temp, None).expect("a bundle");
    assert_eq!(bundle.provenance().dirty, ["manifests/site.pp", "new file"]);
    let old = revision(&temp, "HEAD", None).expect("a bundle");
    assert_eq!(old.text("manifests/site.pp").expect("readable").as_deref(), Some("node default {}\n"));
    assert_eq!(git(temp.path(), "status --porcelain"), status, "neither checkout nor index are touched");
}

#[test]
fn unknown_revisions_and_places_are_explained() {
    let temp = repository();
    for unknown in ["v9", "--help", "HEAD:outside"] {
        let error = revision(&temp, unknown, None).expect_err("unknown");
        assert!(error.to_string().starts_with(&format!("revision `{unknown}` is not known in ")), "{error}");
        assert_eq!(error.hints().len(), 1);
    }
    let plain = tempfile::tempdir().expect("a directory");
    let error = from_revision(plain.path(), "main", None, SystemTime::now()).expect_err("no repository");
    assert!(error.to_string().ends_with("is not in a git checkout, so it has no revisions"), "{error}");
    let error =
        from_working_tree(&plain.path().join("gone"), None, SystemTime::now()).expect_err("no directory");
    assert!(error.to_string().contains("cannot be opened"), "{error}");
}

#[test]
fn a_tree_outside_git_is_a_bundle_without_a_commit() {
    let plain = tempfile::tempdir().expect("a directory");
    fs::write(plain.path().join("site.pp"), "").expect("a file");
    let bundle = from_working_tree(plain.path(), None, SystemTime::now()).expect("a bundle");
    assert_eq!(bundle.provenance().commit, "");
    assert_eq!(paths(&bundle), ["site.pp"]);
}

#[test]
fn prepare_completes_a_copy() {
    let temp = repository();
    let install = Some("mkdir -p modules/ntp && echo 'class ntp {}' > modules/ntp/init.pp && rm run.sh");
    for bundle in [working(&temp, install), revision(&temp, "main", install)] {
        let bundle = bundle.expect("a bundle");
        assert_eq!(
            paths(&bundle),
            ["manifests", "manifests/site.pp", "modules", "modules/ntp", "modules/ntp/init.pp", "site.pp"]
        );
        assert_eq!(bundle.text("modules/ntp/init.pp").expect("readable").as_deref(), Some("class ntp {}\n"));
    }
    assert!(temp.path().join("puppet/run.sh").exists(), "the original is as it was");
    assert!(!temp.path().join("puppet/modules").exists());
}

#[test]
fn a_failed_prepare_shows_its_output() {
    let temp = repository();
    let error = working(&temp, Some("echo cannot resolve forge; exit 3")).expect_err("fails");
    assert!(error.to_string().contains("failed (exit status: 3):\ncannot resolve forge"), "{error}");
}

#[test]
fn a_link_to_something_ignored_is_explained() {
    let temp = repository();
    fs::write(temp.path().join("puppet/x.log"), "ignored").expect("a file");
    symlink("x.log", temp.path().join("puppet/log")).expect("a link");
    let error = working(&temp, None).expect_err("the link would dangle");
    assert!(error.to_string().contains("`log`"), "{error}");
    assert_eq!(error.hints(), ["what it points at may be ignored by git, or an empty directory"]);
}
