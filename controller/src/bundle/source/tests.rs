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

fn config(prepare: Option<&str>) -> BundleConfig {
    BundleConfig { prepare: prepare.map(str::to_owned), ..BundleConfig::new("puppet") }
}

fn working(temp: &TempDir, prepare: Option<&str>) -> Result<Bundle> {
    from_working_tree(temp.path(), &config(prepare), SystemTime::now())
}

fn revision(temp: &TempDir, revision: &str, prepare: Option<&str>) -> Result<Bundle> {
    from_revision(temp.path(), &config(prepare), revision, SystemTime::now())
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
        assert!(error.to_string().starts_with(&format!("unknown revision `{unknown}` in ")), "{error}");
        assert_eq!(error.hints().len(), 1);
    }
    let plain = tempfile::tempdir().expect("a directory");
    let error = from_revision(plain.path(), &BundleConfig::new("."), "main", SystemTime::now())
        .expect_err("no repository");
    assert!(error.to_string().ends_with("is not in a git checkout, so it has no revisions"), "{error}");
    let error = from_working_tree(plain.path(), &BundleConfig::new("gone"), SystemTime::now())
        .expect_err("no directory");
    assert!(error.to_string().contains("cannot be opened"), "{error}");
}

#[test]
fn a_tree_outside_git_is_a_bundle_without_a_commit() {
    let plain = tempfile::tempdir().expect("a directory");
    fs::write(plain.path().join("site.pp"), "").expect("a file");
    let bundle =
        from_working_tree(plain.path(), &BundleConfig::new("."), SystemTime::now()).expect("a bundle");
    assert_eq!(bundle.provenance().commit, "");
    assert_eq!(paths(&bundle), ["site.pp"]);
}

#[test]
fn a_checkout_whose_repository_is_gone_is_no_tree_without_git() {
    let temp = repository();
    fs::remove_dir_all(temp.path().join(".git")).unwrap();
    fs::write(temp.path().join(".git"), "gitdir: /nonexistent/worktrees/x").unwrap();
    let error = working(&temp, None).unwrap_err().to_string();
    assert!(error.starts_with("git cannot read the repository: "), "{error}");
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
    let why = "its target may be ignored by git, left out by `exclude`, or an empty directory";
    assert_eq!(error.hints(), [why, "to leave it out: `exclude = [\"/log\"]` under [bundle]"]);
}
/// Asserts that the clean checkout and its commit give the same bundle, and returns it.
fn both(temp: &TempDir, config: &BundleConfig) -> Bundle {
    let now = from_working_tree(temp.path(), config, SystemTime::now()).expect("a bundle");
    let then = from_revision(temp.path(), config, "HEAD", SystemTime::now()).expect("a bundle");
    assert_eq!(paths(&now), paths(&then));
    assert_eq!(now.digest(), then.digest());
    assert_eq!(now.provenance().dirty, Vec::<String>::new());
    now
}

fn write(temp: &TempDir, path: &str, text: &str) {
    let path = temp.path().join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
    fs::write(path, text).expect("a file");
}

fn commit(temp: &TempDir) {
    git(temp.path(), "add --force .");
    git(temp.path(), "commit -q -m more");
}

/// The errors for a tree that cannot be a bundle: from the working tree, and from the commit.
fn refusals(temp: &TempDir) -> [(String, Vec<String>); 2] {
    [working(temp, None), revision(temp, "HEAD", None)].map(|refused| {
        let error = refused.expect_err("refused");
        (error.to_string(), error.hints().to_vec())
    })
}

#[test]
fn what_is_committed_counts_though_it_is_ignored() {
    let temp = repository();
    write(&temp, "puppet/x/.gitignore", "/kept\n*.d/\n");
    write(&temp, "puppet/x/kept", "committed all the same");
    write(&temp, "puppet/x/a.d/f", "committed all the same");
    commit(&temp);
    write(&temp, "puppet/x/a.d/g", "ignored");
    let bundle = both(&temp, &config(None));
    let files = paths(&bundle);
    assert!(
        files.contains(&"x/kept") && files.contains(&"x/a.d/f") && !files.contains(&"x/a.d/g"),
        "{files:?}"
    );
}

#[test]
fn settings_of_the_machine_do_not_count() {
    let temp = repository();
    write(&temp, "puppet/text", "one\ntwo\n");
    write(&temp, "puppet/crlf", "one\r\ntwo\r\n");
    write(&temp, "puppet/ident", "$Id$\n");
    commit(&temp);
    let digest = both(&temp, &config(None)).digest();
    for setting in [
        "core.autocrlf true",
        "core.autocrlf input",
        "core.eol crlf",
        "core.fileMode false",
        "core.symlinks false",
    ] {
        git(temp.path(), &format!("config {setting}"));
        git(temp.path(), "rm -q -r --cached puppet");
        git(temp.path(), "reset -q --hard");
        assert_eq!(both(&temp, &config(None)).digest(), digest, "{setting}");
        let name = setting.split(' ').next().expect("a name");
        git(temp.path(), &format!("config --unset {name}"));
    }
    fs::write(temp.path().join(".git/info/attributes"), "* eol=crlf ident\n").expect("a file");
    fs::write(temp.path().join(".git/info/exclude"), "new\n").expect("a file");
    assert_eq!(revision(&temp, "HEAD", None).expect("a bundle").digest(), digest);
    fs::remove_file(temp.path().join(".git/info/attributes")).expect("removed");
    git(temp.path(), "reset -q --hard");
    write(&temp, "puppet/new", "which a person's own file ignores");
    let bundle = working(&temp, None).expect("a bundle");
    assert!(paths(&bundle).contains(&"new"));
    assert_eq!(bundle.provenance().dirty, ["new"]);
}

#[test]
fn attributes_change_a_checkout_and_no_bundle() {
    let temp = repository();
    write(&temp, "puppet/text", "one\ntwo\n");
    commit(&temp);
    let first = git(temp.path(), "rev-parse HEAD");
    let plain = both(&temp, &config(None));
    git(temp.path(), "checkout -q -b other");
    write(&temp, ".gitattributes", "text eol=crlf\nrun.sh export-ignore\n");
    commit(&temp);
    fs::remove_file(temp.path().join("puppet/text")).expect("removed");
    git(temp.path(), "reset -q --hard");
    assert_eq!(fs::read_to_string(temp.path().join("puppet/text")).expect("a file"), "one\r\ntwo\r\n");
    let bundle = both(&temp, &config(None));
    assert_eq!(bundle.text("text").expect("readable").as_deref(), Some("one\ntwo\n"));
    assert_eq!(bundle.digest(), plain.digest(), "the file itself is above the bundle");
    assert_eq!(revision(&temp, &first, None).expect("a bundle").digest(), plain.digest());
    write(&temp, "puppet/text", "one\r\nthree\r\n");
    let bundle = working(&temp, None).expect("a bundle");
    assert_eq!(bundle.text("text").expect("readable").as_deref(), Some("one\r\nthree\r\n"));
    assert_eq!(bundle.provenance().dirty, ["text"]);
}

#[test]
fn links_to_the_rest_of_the_repository_are_replaced_in_both() {
    let temp = repository();
    write(&temp, "shared/ntp/init.pp", "class ntp {}\n");
    write(&temp, "shared/ntp/.gitignore", "*.log\n");
    write(&temp, "shared/ntp/kept.log", "committed");
    symlink("init.pp", temp.path().join("shared/ntp/again")).expect("a link");
    symlink("../shared/ntp", temp.path().join("puppet/ntp")).expect("a link");
    symlink("../outside", temp.path().join("puppet/file")).expect("a link");
    commit(&temp);
    write(&temp, "shared/ntp/new.log", "ignored");
    let bundle = both(&temp, &config(None));
    let files = paths(&bundle);
    assert_eq!(files[..6], ["file", "manifests", "manifests/site.pp", "ntp", "ntp/.gitignore", "ntp/again"]);
    assert_eq!(files[6..], ["ntp/init.pp", "ntp/kept.log", "run.sh", "site.pp"]);
    assert_eq!(bundle.text("ntp/init.pp").expect("readable").as_deref(), Some("class ntp {}\n"));
    write(&temp, "shared/ntp/init.pp", "changed\n");
    write(&temp, "shared/other", "changed, and not in the bundle\n");
    assert_eq!(working(&temp, None).expect("a bundle").provenance().dirty, ["ntp/init.pp"]);
}

#[test]
fn links_out_of_the_repository_need_a_setting_and_never_come_from_a_revision() {
    let temp = repository();
    let secret = tempfile::tempdir().expect("a directory");
    fs::write(secret.path().join("key"), "the controller's").expect("a file");
    symlink(secret.path().join("key"), temp.path().join("puppet/key")).expect("a link");
    symlink("../../../../../../../../etc/passwd", temp.path().join("puppet/users")).expect("a link");
    commit(&temp);
    let [now, then] = refusals(&temp);
    let text = secret.path().join("key").display().to_string();
    let message = format!("the link `key` leads out of the repository (`{text}`)");
    let exclude = "to leave it out: `exclude = [\"/key\"]` under [bundle]";
    let word = "`outside_links = true` under [bundle] replaces it with its target on this machine";
    assert_eq!(now, (message.clone(), vec![word.to_owned(), exclude.to_owned()]));
    let committed = "a revision contains only committed files";
    assert_eq!(then, (message.clone(), vec![committed.to_owned(), exclude.to_owned()]));
    let allowed = BundleConfig { outside_links: true, exclude: vec!["/users".to_owned()], ..config(None) };
    let bundle = from_working_tree(temp.path(), &allowed, SystemTime::now()).expect("a bundle");
    assert_eq!(bundle.text("key").expect("readable").as_deref(), Some("the controller's"));
    for prepare in [None, Some("true".to_owned())] {
        let allowed = BundleConfig { prepare, ..allowed.clone() };
        let error = from_revision(temp.path(), &allowed, "HEAD", SystemTime::now()).expect_err("refused");
        assert_eq!(error.to_string(), message);
    }
    both(&temp, &BundleConfig { exclude: vec!["/users".to_owned(), "/key".to_owned()], ..config(None) });
}

#[test]
fn a_git_lfs_pointer_is_not_pushed_instead_of_the_file() {
    let temp = repository();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    write(&temp, "puppet/files/x.deb", pointer);
    commit(&temp);
    let [now, then] = refusals(&temp);
    assert_eq!(now.0, "`files/x.deb` is a Git LFS pointer, not the real file");
    assert_eq!(now.1[0], "`git lfs pull` restores the real file");
    assert_eq!(then.0, now.0);
    assert_eq!(
        then.1[0],
        "a revision contains only this form: run `git lfs pull`, then push the working tree, without --rev"
    );
    // Like git-lfs: a filter converts between the two, so git sees no change.
    write(&temp, "pointer", pointer);
    write(&temp, "real", "the package itself");
    write(&temp, ".git/info/attributes", "*.deb filter=lfs\n");
    for (side, command) in [("clean", "cat pointer"), ("smudge", "cat real")] {
        let setting = format!("filter.lfs.{side}");
        let set = Command::new("git").args(["config", &setting, command]).current_dir(temp.path()).status();
        assert!(set.expect("git runs").success());
    }
    fs::remove_file(temp.path().join("puppet/files/x.deb")).expect("removed");
    git(temp.path(), "checkout -q -- puppet/files/x.deb");
    let bundle = working(&temp, None).expect("a bundle");
    assert_eq!(bundle.text("files/x.deb").expect("readable").as_deref(), Some("the package itself"));
    assert_eq!(bundle.provenance().dirty, Vec::<String>::new());
}

#[test]
fn a_submodule_is_fetched_by_prepare_or_lies_in_the_checkout() {
    let temp = repository();
    let module = repository();
    let add = format!(
        "-c protocol.file.allow=always submodule --quiet add {} puppet/modules/ntp",
        module.path().display()
    );
    git(temp.path(), &add.replace("add ", "add --force "));
    git(temp.path(), "commit -q -m submodule");
    let here = working(&temp, None).expect("a bundle");
    assert!(paths(&here).contains(&"modules/ntp/puppet/manifests/site.pp"));
    assert_eq!(here.provenance().dirty, Vec::<String>::new());
    let error = revision(&temp, "HEAD", None).expect_err("refused");
    assert_eq!(error.to_string(), "`modules/ntp` is a git submodule that is not checked out");
    let made = revision(&temp, "HEAD", Some("echo 'class ntp {}' > modules/ntp/init.pp")).expect("a bundle");
    assert!(paths(&made).contains(&"modules/ntp/init.pp"));
    let error = revision(&temp, "HEAD", Some("true")).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "`modules/ntp` is a git submodule, and the prepare command did not fetch it"
    );
    git(temp.path(), "submodule --quiet deinit --force --all");
    let error = working(&temp, None).expect_err("refused");
    assert_eq!(error.hints()[0], "`git submodule update --init` fetches it");
}

#[test]
fn a_module_with_a_repository_of_its_own_is_taken_by_its_own_rules() {
    let temp = repository();
    fs::write(temp.path().join(".gitignore"), "*.log\n").expect("a file");
    let module = temp.path().join("puppet/modules/ntp");
    fs::create_dir_all(&module).expect("made");
    git(&module, "init -q -b main .");
    fs::write(module.join(".gitignore"), "/ignored\n").expect("a file");
    for name in ["ignored", "init.pp"] {
        fs::write(module.join(name), "x").expect("a file");
    }
    let bundle = working(&temp, None).expect("a bundle");
    let taken: Vec<&str> =
        paths(&bundle).into_iter().filter_map(|path| path.strip_prefix("modules/ntp/")).collect();
    assert_eq!(taken, [".gitignore", "init.pp"]);
}

#[test]
fn what_puppet_does_not_read_is_left_out_with_a_warning() {
    let temp = repository();
    symlink("../gone", temp.path().join("puppet/loose")).expect("a link");
    write(&temp, "puppet/lib/Fact.rb", "");
    commit(&temp);
    let [(message, hints), _] = refusals(&temp);
    assert_eq!(message, "the link `loose` is broken (`../gone`)");
    assert_eq!(hints[1], "to leave it out: `exclude = [\"/loose\"]` under [bundle]");
    git(temp.path(), "rm -q puppet/loose");
    let spec = "puppet/vendor/ntp/spec";
    for name in ["a", "A", "ok"] {
        write(&temp, &format!("{spec}/{name}"), name);
    }
    symlink("gone", temp.path().join(spec).join("loose")).expect("a link");
    symlink("/etc/passwd", temp.path().join(spec).join("users")).expect("a link");
    {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        fs::write(temp.path().join(spec).join(OsStr::from_bytes(b"l\xe4tin")), "").expect("a file");
    }
    commit(&temp);
    let bundle = both(&temp, &config(None));
    let left: Vec<&str> = paths(&bundle).into_iter().filter(|path| path.contains("spec/")).collect();
    assert_eq!(left, ["vendor/ntp/spec/A", "vendor/ntp/spec/ok"]);
    let said = |part: &str| bundle.warnings().iter().any(|warning| warning.contains(part));
    assert_eq!(bundle.warnings().len(), 4);
    for part in ["spec/loose` is broken", "spec/users` leads out", "differ only in case", "is not UTF-8"] {
        assert!(said(part), "{part}: {:?}", bundle.warnings());
    }
    let config = BundleConfig { exclude: vec!["spec/".to_owned()], ..config(None) };
    let bundle = both(&temp, &config);
    assert!(bundle.warnings().is_empty() && !paths(&bundle).iter().any(|path| path.contains("spec")));
}

#[test]
fn modules_that_git_ignores_give_a_warning() {
    let temp = repository();
    write(&temp, "puppet/modules/ntp/init.pp", "class ntp {}\n");
    let now = working(&temp, None).expect("a bundle");
    assert!(
        now.warnings()[0].starts_with("`modules` is on the modulepath but not in the bundle"),
        "{:?}",
        now.warnings()
    );
    write(&temp, "puppet/Puppetfile", "mod 'puppetlabs-ntp', '1.0.0'\n");
    commit_only(&temp, "puppet/Puppetfile");
    for bundle in [working(&temp, None), revision(&temp, "HEAD", None)] {
        let warnings = bundle.expect("a bundle").warnings().to_vec();
        assert!(
            warnings[0].starts_with("1 of 1 modules of the Puppetfile are not in the bundle (ntp)"),
            "{warnings:?}"
        );
    }
    let prepared =
        revision(&temp, "HEAD", Some("mkdir -p modules/ntp && touch modules/ntp/init.pp")).expect("a bundle");
    assert!(prepared.warnings().is_empty());
}

fn commit_only(temp: &TempDir, path: &str) {
    git(temp.path(), &format!("add {path}"));
    git(temp.path(), "commit -q -m more");
}

#[test]
fn a_sparse_checkout_is_the_whole_commit() {
    let temp = repository();
    let whole = both(&temp, &config(None)).digest();
    git(temp.path(), "update-index --skip-worktree puppet/run.sh puppet/site.pp");
    for name in ["run.sh", "site.pp"] {
        fs::remove_file(temp.path().join("puppet").join(name)).expect("removed");
    }
    assert_eq!(both(&temp, &config(None)).digest(), whole);
}

#[test]
fn deleted_and_replaced_files_are_what_the_disk_says() {
    let temp = repository();
    write(&temp, "puppet/d/f", "x");
    write(&temp, "puppet/e", "x");
    commit(&temp);
    let code = temp.path().join("puppet");
    fs::remove_dir_all(code.join("d")).expect("removed");
    symlink("manifests", code.join("d")).expect("a link");
    fs::remove_file(code.join("e")).expect("removed");
    write(&temp, "puppet/e/inside", "x");
    fs::remove_file(code.join("run.sh")).expect("removed");
    let bundle = working(&temp, None).expect("a bundle");
    assert_eq!(paths(&bundle), ["d", "e", "e/inside", "manifests", "manifests/site.pp", "site.pp"]);
    assert_eq!(bundle.provenance().dirty, ["d", "d/f", "e", "e/inside", "run.sh"]);
}

#[test]
fn a_directory_that_git_ignores_is_a_tree_without_git() {
    let temp = repository();
    write(&temp, "puppet/modules/own/manifests/site.pp", "");
    let bundle = from_working_tree(temp.path(), &BundleConfig::new("puppet/modules/own"), SystemTime::now());
    let bundle = bundle.expect("a bundle");
    assert_eq!(paths(&bundle), ["manifests", "manifests/site.pp"]);
    assert_eq!(bundle.provenance().commit, "");
}

#[test]
fn links_of_a_tree_without_git_stay_in_it() {
    let plain = tempfile::tempdir().expect("a directory");
    let root = plain.path().canonicalize().expect("a path");
    fs::create_dir(root.join("d")).expect("made");
    fs::write(root.join("d/f"), "x").expect("a file");
    symlink(root.join("d/f"), root.join("absolute")).expect("a link");
    symlink("./d", root.join("inside")).expect("a link");
    let config = BundleConfig::new(".");
    let bundle = from_working_tree(&root, &config, SystemTime::now()).expect("a bundle");
    assert_eq!(paths(&bundle), ["absolute", "d", "d/f", "inside"]);
    symlink("/etc", root.join("etc")).expect("a link");
    let error = from_working_tree(&root, &config, SystemTime::now()).expect_err("refused");
    assert_eq!(error.to_string(), "the link `etc` leads out of the repository (`/etc`)");
}
