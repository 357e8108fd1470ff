//! Hosts are used again, never shared, never lost.

use std::{collections::BTreeSet, process::Child, thread, time::Duration};

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
        other.stderr.contains("quick-1 is passed over: memory is 1073741824, wanted 536870912"),
        "{}",
        other.stderr
    );
    assert!(
        fleet.ok(&["provision", "--role", "quick", "--fresh", "--dry-run"]).contains("quick-2  is launched")
    );

    let again = fleet.exits(0, &["provision", "--role", "quick"]);
    assert!(
        again.stderr.contains("quick-1 is used again: it was stopped, and nobody has it"),
        "{}",
        again.stderr
    );
    assert_eq!(ids(&fleet), first, "no other host was launched");

    fleet.ok(&["release", "quick-1", "--keep-running"]);
    let running = fleet.exits(0, &["provision", "--role", "quick", "--reuse", "running"]);
    assert!(running.stderr.contains("quick-1 is used again: it runs"), "{}", running.stderr);
}

#[test]
fn who_has_a_host_is_asked_before_it_is_given_away() {
    let fleet = fleet();
    fleet.ok(&["provision", "--role", "quick"]);
    fleet.ok(&["user", "issue", "bob", "--role", "operator"]);
    let refused = fleet.exits(4, &["--as", "bob", "release", "quick-1"]);
    assert!(
        refused.stderr.contains("quick-1 is ") && refused.stderr.contains("not bob's"),
        "{}",
        refused.stderr
    );
    fleet.ok(&["--as", "bob", "release", "--force", "quick-1"]);
    assert_eq!(standings(&fleet), ["idle"]);
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

/// Kills `ctl provision` with SIGKILL after `after`, wherever it then is.
fn killed_after(fleet: &Fleet, after: Duration) {
    let mut child = fleet.spawn(&["provision", "--role", "slow"]);
    thread::sleep(after);
    child.kill().expect("killed");
    child.wait().expect("waited for");
}

#[test]
fn a_killed_controller_leaves_nothing_that_the_next_does_not_finish() {
    let fleet = fleet();
    // Points in time stand for steps: launch, boot, enrolment, claim, push, the run's beginning and middle.
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
    killed_after(&fleet, Duration::from_millis(3_000));
    let listed = fleet.json(&["gc"]);
    assert_eq!((listed.len(), &listed[0]["host"]), (1, &serde_json::json!("slow-1")));
    let before = ids(&fleet);
    fleet.ok(&["gc"]);
    assert_eq!(ids(&fleet), before, "looking changes nothing");
    fleet.ok(&["gc", "--yes"]);
    assert!(standings(&fleet).iter().all(|standing| standing == "idle"), "{:?}", standings(&fleet));
    assert_eq!(fleet.json(&["gc"]), Vec::<serde_json::Value>::new());
}
