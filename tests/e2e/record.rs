//! The flight record of a real host: read from the host, fetched, and read from the copy.

use tests::{Fleet, repository};

#[test]
fn what_happened_on_a_host_is_read_there_and_elsewhere() {
    let fleet = Fleet::new(&repository("tests/fixtures/control"), &["quick"]);
    fleet.ok(&["provision", "--role", "quick"]);
    fleet.ok(&["run", "quick-1", "--", "perl", "-e", "$0 = 'the-culprit'; $x = 'x' x (64 << 20); sleep 4"]);

    let info = fleet.ok(&["record", "info", "quick-1"]);
    assert!(info.contains("proc") && info.contains("kernel log"), "{info}");
    let status = fleet.json(&["status", "quick-1"]);
    assert_eq!(status[0]["recorder"]["collector"], "proc", "{status:?}");

    let copy = fleet.directory().join("copy");
    let copy = copy.to_str().expect("UTF-8");
    fleet.ok(&["record", "fetch", "quick-1", "--to", copy]);
    fleet.ok(&["destroy", "--yes", "quick-1"]);
    let log = fleet.ok(&["cpu-log", "--from-dir", copy, "--since", "start", "--command", "the-culprit"]);
    assert!(log.lines().filter(|line| line.ends_with("the-culprit")).count() >= 3, "{log}");
    assert!(log.contains(" run quick-1-"), "the runs are on the same time line: {log}");

    let query =
        ["cpu-log", "--from-dir", copy, "--since", "start", "--summary", "--sort", "footprint", "--top", "1"];
    let summary = fleet.json(&query);
    let culprit = summary.iter().find(|line| line["type"] == "summary").expect("one process");
    assert_eq!(culprit["command"], "the-culprit", "{summary:?}");
    assert!(fleet.ok(&["oom", "--from-dir", copy]).is_empty(), "nothing was killed");
}
