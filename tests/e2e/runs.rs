//! Runs survive the death of the controller and of the agent, and do not disturb each other.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tests::{Fleet, Outcome, parse_lines, repository};

const ROLES: [&str; 5] = ["quick", "slow", "endless", "failing", "uncompilable"];

fn fleet() -> Fleet {
    Fleet::new(&repository("tests/fixtures/control"), &ROLES)
}

/// Reads the child's standard error until a line contains `text`; returns that line.
fn wait_for(child: &mut Child, text: &str) -> String {
    let mut lines = BufReader::new(child.stderr.as_mut().expect("captured")).lines();
    lines
        .by_ref()
        .map_while(Result::ok)
        .find(|line| line.contains(text))
        .unwrap_or_else(|| panic!("never said {text:?}"))
}

/// The run id in a line such as `db-1: run db-1-x7k2m9`.
fn run_id(line: &str) -> String {
    let (_, rest) = line.split_once("run ").expect("names a run");
    rest.split_whitespace().next().expect("an id").to_owned()
}

#[test]
fn a_killed_agent_loses_nothing_of_a_run() {
    let fleet = fleet();
    fleet.ok(&["provision", "--role", "quick"]);
    // A run inherits none of the agent's settings: umask, OOM score, priority, core dump limit.
    let inherited = "umask; cat /proc/self/oom_score_adj; nice; ulimit -Sc; ulimit -Hc; \
                     awk '/^Max core/ { print $6 }' /proc/1/limits";
    let inherited = fleet.ok(&["run", "quick-1", "--", "sh", "-c", inherited]);
    let inherited: Vec<&str> = inherited.lines().collect();
    assert_eq!(inherited[..4], ["0022", "0", "0", "0"]);
    assert_eq!(inherited[4], inherited[5], "a daemon may want core dumps");
    let apply = fleet.spawn(&["apply", "quick-1", "--output", "json"]);
    drop(Outcome::from(apply.wait_with_output().expect("ends")));

    fleet.ok(&["provision", "--role", "slow"]);
    fleet.ok(&["run", "slow-1", "--", "rm", "/etc/magpie-before", "/etc/magpie-after"]);
    let mut apply = fleet.spawn(&["apply", "slow-1"]);
    wait_for(&mut apply, "run slow-1-");
    let killed = fleet.ctl(&[
        "run",
        "slow-1",
        "--",
        "systemctl",
        "kill",
        "-s",
        "KILL",
        "--kill-whom=main",
        "magpie-agent",
    ]);
    assert!([0, 5].contains(&killed.code), "{killed:?}");
    let outcome = Outcome::from(apply.wait_with_output().expect("ends"));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    for path in ["/etc/magpie-before", "/etc/magpie-after"] {
        assert!(outcome.stdout.contains(&format!("File[{path}]")), "{}", outcome.stdout);
    }
    fleet.ok(&["run", "slow-1", "--", "test", "-e", "/etc/magpie-after"]);
}

#[test]
fn control_c_and_sigterm_detach_and_attach_shows_all_of_it() {
    let fleet = fleet();
    fleet.ok(&["provision", "--role", "slow"]);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut command = fleet.spawn(&["run", "slow-1", "--", "sh", "-c", "echo one; sleep 2; echo two"]);
        let id = run_id(&wait_for(&mut command, "run slow-1-"));
        kill(Pid::from_raw(command.id() as i32), signal).expect("sent");
        let outcome = Outcome::from(command.wait_with_output().expect("ends"));
        assert_eq!(outcome.code, 5, "{outcome:?}");
        assert!(outcome.stderr.contains(&format!("ctl attach {id}")), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(&format!("detached: run {id} continues")), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("error"), "{}", outcome.stderr);
        let replay = fleet.ok(&["attach", &id]);
        assert!(replay.contains("one") && replay.contains("two"), "{replay}");
    }
}

#[test]
fn cancel_ends_everything_that_a_run_started() {
    let fleet = fleet();
    fleet.ok(&["provision", "--role", "quick"]);
    let mut endless = fleet.spawn(&["provision", "--role", "endless"]);
    let id = run_id(&wait_for(&mut endless, "run endless-1-"));
    // A second apply names the running one instead of waiting or overlapping.
    let busy = fleet.exits(4, &["apply", "endless-1"]);
    assert!(busy.stderr.contains(&id), "{}", busy.stderr);
    fleet.ok(&["cancel", &id]);
    let outcome = Outcome::from(endless.wait_with_output().expect("ends"));
    assert_eq!(outcome.code, 5, "{outcome:?}");
    let told = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(told.contains("the run was cancelled by "), "{outcome:?}");
    let left = fleet.exits(1, &["run", "endless-1", "--", "pgrep", "-fx", "/bin/sleep 86399"]);
    assert!(!left.stdout.contains("86399"), "{left:?}");
}

/// Uses one host, and reboots it at the end: like a machine, a local host survives that.
#[test]
fn a_command_is_as_it_is_over_ssh_and_its_host_reboots() {
    let fleet = fleet();
    fleet.ok(&["provision", "--role", "quick"]);
    exit_codes_and_hints(&fleet);
    input_and_output(&fleet);
    what_is_left(&fleet);
    reboot(&fleet);
}

fn exit_codes_and_hints(fleet: &Fleet) {
    let seven = fleet.exits(7, &["run", "quick-1", "--", "sh", "-c", "echo data; exit 7"]);
    assert_eq!(seven.stdout, "data\n");
    assert!(seven.stderr.ends_with("quick-1: sh exited with 7\n"), "{}", seven.stderr);
    assert!(!seven.stderr.contains("error:") && !seven.stderr.contains("apply"), "{}", seven.stderr);
    let line = fleet.exits(127, &["run", "quick-1", "--", "ps aux | wc -l"]);
    assert!(line.stderr.contains("hint: the command is not run by a shell; to use one:"), "{}", line.stderr);
    assert!(line.stderr.contains("`ctl run quick-1 -- sh -c 'ps aux | wc -l'`"), "{}", line.stderr);
    let dashes = fleet.exits(2, &["run", "quick-1", "hostname"]);
    let hint = "hint: a command comes after `--`: `ctl run quick-1 -- hostname`\n";
    assert!(dashes.stderr.ends_with(hint), "{}", dashes.stderr);
}

fn input_and_output(fleet: &Fleet) {
    let mut cat = fleet.command(&["run", "quick-1", "--", "cat"]);
    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ctl starts");
    let bytes = b"\x00\xff one\n".repeat(50_000);
    cat.stdin.take().expect("captured").write_all(&bytes).expect("written");
    assert!(cat.wait_with_output().expect("ends").stdout == bytes);
    let cut =
        fleet.exits(1, &["run", "--max-output", "1M", "quick-1", "--", "head", "-c", "3M", "/dev/zero"]);
    let failure = "quick-1: the output was cut at its limit of 1.0 MiB: 2.0 MiB were dropped";
    assert!(cut.stderr.contains(failure), "{}", cut.stderr);
    assert_eq!(cut.stdout.len(), 1 << 20);
    let raw = parse_lines(&fleet.ok(&["--output", "json", "run", "quick-1", "--", "printf", r"\377"]));
    let data = raw.iter().find(|line| line.get("output").is_some()).expect("an output event");
    assert_eq!((&data["output"]["encoding"], &data["output"]["data"]), (&"base64".into(), &"/w==".into()));
}

/// A process that keeps the output open and outlives the run.
fn what_is_left(fleet: &Fleet) {
    let daemon = fleet.exits(0, &["run", "quick-1", "--", "sh", "-c", "sleep 86398 & echo $!"]);
    let left =
        format!("quick-1: still running: 1 process started by the run: sleep ({})\n", daemon.stdout.trim());
    assert!(daemon.stderr.ends_with(&left), "{}", daemon.stderr);
    let unit = fleet.ok(&["run", "quick-1", "--", "cat", &format!("/proc/{}/cgroup", daemon.stdout.trim())]);
    assert!(unit.contains("/magpie-run-quick-1-") && unit.contains(".scope\n"), "{unit}");
}

fn reboot(fleet: &Fleet) {
    let boot = || fleet.ok(&["run", "quick-1", "--", "cut", "-d", " ", "-f", "22", "/proc/1/stat"]);
    let before = boot();
    let rebooted = fleet.exits(5, &["run", "quick-1", "--", "sh", "-c", "systemctl reboot; sleep 86397"]);
    assert!(rebooted.stderr.contains("quick-1 connection lost, the run continues"), "{}", rebooted.stderr);
    assert!(rebooted.stderr.contains("the host rebooted before the run had ended"), "{}", rebooted.stderr);
    assert_ne!(boot(), before);
}

#[test]
fn two_applies_at_once_are_one_apply_and_one_answer() {
    let fleet = fleet();
    fleet.ok(&["provision", "--role", "slow"]);
    fleet.ok(&["run", "slow-1", "--", "rm", "/etc/magpie-before"]);
    let children: Vec<Child> = (0..2).map(|_| fleet.spawn(&["apply", "slow-1"])).collect();
    let outcomes: Vec<Outcome> =
        children.into_iter().map(|child| Outcome::from(child.wait_with_output().expect("ends"))).collect();
    let mut codes: Vec<i32> = outcomes.iter().map(|outcome| outcome.code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 4], "{outcomes:?}");
}

#[test]
fn failures_say_what_where_and_why() {
    let fleet = fleet();
    let failing = fleet.exits(1, &["provision", "--role", "failing"]);
    for part in ["Exec[refuse]", "manifests/site.pp:15", "the disk is on fire"] {
        assert!(failing.stdout.contains(part), "{part}: {}", failing.stdout);
    }
    let said = [&failing.stdout[..], &failing.stderr].concat();
    assert_eq!(said.matches("returned 3").count(), 1, "{said}");
    assert_eq!(said.matches("| the disk is on fire").count(), 1, "{said}");
    assert!(failing.stderr.contains("`ctl apply failing-1` again"), "{said}");
    let uncompilable = fleet.exits(1, &["provision", "--role", "uncompilable"]);
    for part in ["no_such_class", "manifests/site.pp:19"] {
        assert!(uncompilable.stdout.contains(part), "{part}: {}", uncompilable.stdout);
    }
    let said = [&uncompilable.stdout[..], &uncompilable.stderr].concat();
    assert_eq!(said.matches("no_such_class").count(), 1, "{said}");
}

#[test]
fn an_apply_says_what_it_changes_and_refuses_typos_before_it_begins() {
    let tree = TempDir::with_prefix("magpie-").expect("made");
    let manifests = tree.path().join("manifests");
    fs::create_dir(&manifests).expect("made");
    for name in ["site.pp", "nodes.pp"] {
        let from = repository("tests/fixtures/control/manifests").join(name);
        fs::copy(from, manifests.join(name)).expect("copied");
    }
    let site = manifests.join("site.pp");
    let fleet = Fleet::new(tree.path(), &["quick"]);
    fleet.ok(&["provision", "--role", "quick"]);

    fleet.ok(&["run", "quick-1", "--", "sh", "-c", "echo old > /etc/magpie-test"]);
    let plan = fleet.exits(10, &["apply", "quick-1", "--noop"]);
    for line in ["  -old\n", "  +role quick\n"] {
        assert_eq!(plan.stdout.matches(line).count(), 1, "{plan:?}");
    }
    assert!(!plan.stderr.contains("[1/") && !plan.stdout.contains("+++"), "{plan:?}");
    let plain = fleet.exits(10, &["apply", "quick-1", "--noop", "--no-diff"]);
    assert!(plain.stdout.contains("pending File[/etc/magpie-test]"), "{plain:?}");
    assert!(!plain.stdout.contains("-old"), "{plain:?}");
    let runs = fleet.ok(&["runs", "quick-1"]);
    assert_eq!(runs.matches("plan as quick: 1 would change").count(), 2, "{runs}");
    // The provision, not a plan.
    assert_eq!(fleet.json(&["status", "quick-1"])[0]["last_apply"]["state"], "changed");

    let tagged = fleet.exits(2, &["apply", "quick-1", "--tags", "nosuchtag"]);
    assert!(tagged.stderr.contains("no resource on quick-1 has the tag nosuchtag"), "{tagged:?}");
    assert_eq!(tagged.stdout.lines().count(), 1, "{tagged:?}");

    let before = fleet.ok(&["runs", "quick-1"]);
    fs::write(&site, "class {").expect("written");
    let typo = fleet.exits(2, &["apply", "quick-1"]);
    assert!(typo.stderr.contains("  manifests/site.pp: Syntax error at end of input"), "{typo:?}");
    assert_eq!(fleet.ok(&["runs", "quick-1"]), before, "the typo reached the host");
}
