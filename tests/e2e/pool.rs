//! Hosts are reused, never shared, never lost.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tests::{Fleet, Outcome, repository};

fn fleet() -> Fleet {
    Fleet::new(&repository("tests/fixtures/control"), &["quick", "slow"])
}

/// Ids of the fleet's hosts.
fn ids(fleet: &Fleet) -> BTreeSet<String> {
    fleet.json(&["hosts"]).iter().map(|host| host["id"].as_str().expect("an id").to_owned()).collect()
}

fn standings(fleet: &Fleet) -> Vec<String> {
    let word = |host: &serde_json::Value| host["standing"].as_str().expect("a standing").to_owned();
    fleet.json(&["hosts"]).iter().map(word).collect()
}

#[test]
fn a_released_host_is_the_next_one() {
    let fleet = fleet();
    fleet.ok(&["provision", "--role", "quick"]);
    let first = ids(&fleet);
    fleet.ok(&["release", "quick-1"]);
    assert_eq!(fleet.json(&["hosts"])[0]["state"], "stopped");

    let plan = fleet.json(&["provision", "--role", "quick", "--count", "2", "--dry-run"]);
    let how: Vec<_> = plan.iter().map(|step| (step["host"].as_str(), step["how"].as_str())).collect();
    assert_eq!(how, [(Some("quick-1"), Some("start")), (Some("quick-2"), Some("launch"))]);

    let other = fleet.exits(0, &["provision", "--role", "quick", "--memory", "512M", "--dry-run"]);
    assert!(
        other.stderr.contains("quick-1 is not reused: memory is 1.0 GiB, wanted 512 MiB"),
        "{}",
        other.stderr
    );
    assert!(
        fleet
            .ok(&["provision", "--role", "quick", "--reuse", "never", "--dry-run"])
            .contains("quick-2  would be launched")
    );

    let again = fleet.exits(0, &["provision", "--role", "quick"]);
    assert!(again.stderr.contains("quick-1 is reused: stopped and free"), "{}", again.stderr);
    assert_eq!(ids(&fleet), first, "no other host was launched");

    fleet.ok(&["release", "quick-1", "--keep-running"]);
    let running = fleet.exits(0, &["provision", "--role", "quick", "--reuse", "running"]);
    assert!(running.stderr.contains("quick-1 is reused: running and free"), "{}", running.stderr);
}

#[test]
fn who_has_a_host_is_asked_before_it_is_changed() {
    let fleet = fleet();
    fleet.ok(&["provision", "--role", "quick"]);
    let states = |fleet: &Fleet| -> Vec<String> {
        fleet.json(&["hosts"]).iter().map(|host| host["state"].as_str().expect("one").to_owned()).collect()
    };
    fleet.ok(&["user", "issue", "bob", "--user-role", "operator"]);
    fleet.ok(&["user", "issue", "eve", "--user-role", "reader", "--ttl", "30d"]);
    assert!(fleet.ok(&["--as", "eve", "status"]).contains("quick-1"), "hosts take a reader's month");

    // A reader cannot change anything, whatever the options, and no provider is asked.
    let changing: [&[&str]; 7] = [
        &["stop", "--force", "quick-1"],
        &["start", "quick-1"],
        &["destroy", "--yes", "--force", "quick-1"],
        &["release", "--force", "quick-1"],
        &["clone", "--force", "quick-1"],
        &["gc", "--yes"],
        &["image", "prune", "--yes", "--keep", "0"],
    ];
    for verb in changing {
        let refused = fleet.exits(2, &[&["--as", "eve"], verb].concat()).stderr;
        assert!(refused.contains("eve (reader) may not "), "{verb:?}: {refused}");
    }
    // Nor can a user with a self-issued certificate: the host does not know that CA.
    let refused = fleet.exits(
        3,
        &["--config", &forged(&fleet), "--as", "mallory", "destroy", "--yes", "--force", "quick-1"],
    );
    assert!(refused.stderr.contains("another fleet"), "{}", refused.stderr);
    // Another operator must force it.
    for verb in [&["stop", "quick-1"][..], &["destroy", "--yes", "quick-1"], &["release", "quick-1"]] {
        let refused = fleet.exits(4, &[&["--as", "bob"], verb].concat()).stderr;
        assert!(
            refused.contains("quick-1 belongs to ") && refused.contains(", not to bob\nhint: --force"),
            "{refused}"
        );
    }
    assert_eq!((standings(&fleet), states(&fleet)), (vec!["used".to_owned()], vec!["running".to_owned()]));

    // No change is reported as such. For a host that is down, the provider is asked.
    assert_eq!(fleet.exits(0, &["start", "quick-1"]).stderr, "quick-1 is already running\n");
    assert_eq!(fleet.exits(0, &["--as", "bob", "stop", "--force", "quick-1"]).stderr, "quick-1 stopped\n");
    assert_eq!(fleet.exits(0, &["stop", "quick-1"]).stderr, "quick-1 is already stopped\n");
    fleet.exits(4, &["--as", "bob", "destroy", "--yes", "quick-1"]);
    fleet.exits(2, &["--as", "eve", "destroy", "--yes", "--force", "quick-1"]);
    assert_eq!(fleet.exits(0, &["start", "quick-1"]).stderr, "quick-1 started\n");
    fleet.ok(&["--as", "bob", "release", "--force", "quick-1"]);
    assert_eq!(standings(&fleet), ["idle"]);
    assert_eq!(fleet.exits(0, &["release", "quick-1"]).stderr, "quick-1 is already free\n");

    // Scripts need `--yes`; on a terminal, `ctl` asks.
    let asked = fleet.exits(2, &["destroy", "quick-1"]).stderr;
    assert!(asked.contains("there is no terminal to ask on\nhint: --yes"), "{asked}");
    let (code, screen) = at_a_terminal(&fleet, &["destroy", "quick-1"], "n\n");
    assert!(code == 5 && screen.contains("destroy quick-1? [y/N]"), "{code} {screen}");
    assert!(screen.contains("quick-1: the host with its disk, runs and flight record"), "{screen}");
    let (code, screen) = at_a_terminal(&fleet, &["destroy", "quick-1"], "y\n");
    assert!(code == 0 && screen.contains("quick-1 destroyed"), "{code} {screen}");
    assert_eq!(ids(&fleet).len(), 0);
}

/// A configuration whose CA directory has another user CA instead of the fleet's, with an admin of that CA.
fn forged(fleet: &Fleet) -> String {
    let here = fleet.directory();
    let copy = |from: &Path, to: &Path| {
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().expect("runs").success());
    };
    let other = here.join("other");
    fs::create_dir(&other).expect("made");
    let mut init = fleet.command(&["init", "--name", "other"]);
    assert!(init.current_dir(&other).output().expect("runs").status.success());
    copy(&here.join(".magpie"), &here.join("forged"));
    for file in ["user-ca.key", "user-ca.crt"] {
        copy(&other.join(".magpie").join(file), &here.join("forged").join(file));
    }
    let config = fs::read_to_string(here.join("magpie.toml")).expect("read");
    let path = here.join("forged.toml").display().to_string();
    fs::write(&path, config.replace("[fleet]", "[fleet]\nca = \"forged\"")).expect("written");
    fleet.ok(&["--config", &path, "user", "issue", "mallory", "--user-role", "admin"]);
    path
}

/// Runs `ctl` on a terminal and types `keys`. Returns the exit code and the screen.
fn at_a_terminal(fleet: &Fleet, args: &[&str], keys: &str) -> (i32, String) {
    let command = fleet.command(args);
    let words: Vec<_> = [command.get_program()].into_iter().chain(command.get_args()).collect();
    let line = words.iter().map(|word| word.to_str().expect("UTF-8")).collect::<Vec<_>>().join(" ");
    let mut session = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .current_dir(fleet.directory())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script(1) starts");
    session.stdin.take().expect("piped").write_all(keys.as_bytes()).expect("typed");
    let outcome = Outcome::from(session.wait_with_output().expect("ends"));
    (outcome.code, outcome.stdout)
}

#[test]
fn ten_controllers_share_five_stopped_hosts_fairly() {
    let fleet = fleet();
    fleet.ok(&["provision", "--role", "quick", "--count", "5"]);
    let pool = ids(&fleet);
    let names: Vec<String> = (1..=5).map(|n| format!("quick-{n}")).collect();
    let release: Vec<&str> = ["release"].into_iter().chain(names.iter().map(String::as_str)).collect();
    fleet.ok(&release);

    let controllers: Vec<Child> =
        (0..10).map(|_| fleet.spawn(&["provision", "--role", "quick", "--output", "json"])).collect();
    let mut got = Vec::new();
    for controller in controllers {
        let outcome = Outcome::from(controller.wait_with_output().expect("ends"));
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let recap = tests::parse_lines(&outcome.stdout).pop().expect("a recap");
        got.push(recap["host"].as_str().expect("a name").to_owned());
    }
    let all = ids(&fleet);
    assert_eq!(got.iter().collect::<BTreeSet<_>>().len(), 10, "no host is shared: {got:?}");
    assert!(pool.is_subset(&all), "the pool is still there");
    assert_eq!(all.len(), 10, "five were used again, five launched");
    assert_eq!(standings(&fleet), ["used"; 10]);
}

/// Kills `ctl provision` with SIGKILL after `after`, whatever it is doing.
fn killed_after(fleet: &Fleet, after: Duration) {
    let mut child = fleet.spawn(&["provision", "--role", "slow"]);
    thread::sleep(after);
    child.kill().expect("killed");
    child.wait().expect("waited for");
}

/// Kills `ctl provision` with SIGKILL as soon as its host exists.
fn killed_once_launched(fleet: &Fleet) {
    let mut child = fleet.spawn(&["provision", "--role", "slow"]);
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.ends_with("booting")), "it ended without a host");
    child.kill().expect("killed");
    child.wait().expect("waited for");
}

#[test]
fn a_killed_controller_leaves_nothing_that_the_next_does_not_finish() {
    let fleet = fleet();
    // The times stand for steps: launch, boot, enrolment, claim, push, the beginning and the middle of the run.
    for (round, after) in [100, 250, 400, 600, 1_000, 3_000].into_iter().enumerate() {
        killed_after(&fleet, Duration::from_millis(after));
        let finished = fleet.exits(0, &["provision", "--role", "slow"]);
        assert_eq!(ids(&fleet).len(), round + 1, "after {after} ms: {}", finished.stderr);
        assert!(standings(&fleet).iter().all(|standing| standing == "used"), "{:?}", standings(&fleet));
    }
    assert_eq!(fleet.json(&["gc"]), Vec::<serde_json::Value>::new());
}

#[test]
fn what_a_killed_controller_left_can_be_cleared_up() {
    let fleet = fleet();
    killed_once_launched(&fleet);
    let listed = fleet.json(&["gc"]);
    assert_eq!((listed.len(), &listed[0]["host"]), (1, &serde_json::json!("slow-1")));
    let before = ids(&fleet);
    fleet.ok(&["gc"]);
    assert_eq!(ids(&fleet), before, "looking changes nothing");
    fleet.ok(&["gc", "--yes"]);
    assert!(standings(&fleet).iter().all(|standing| standing == "idle"), "{:?}", standings(&fleet));
    assert_eq!(fleet.json(&["gc"]), Vec::<serde_json::Value>::new());
}
