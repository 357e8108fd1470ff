//! Kills `ctl` with SIGKILL at any point of `provision`: the next command finishes the work. No host is lost, and none
//! exists twice.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    thread,
    time::{Duration, Instant},
};

use nix::libc::SIGKILL;
use serde_json::{Value, json};
use tests::{Fleet, ec2::Ec2Lab};

use crate::setup::{all_are_used, lab_and_fleet, listed};

/// Where a controller is killed.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// Before or after EC2 has acted on the nth call of this name.
    Call(&'static str, usize, &'static str),
    /// When `ctl` prints this.
    Says(&'static str),
    /// When the host's console shows this.
    Console(&'static str),
}

use Point::{Call, Console, Says};

/// Every API call of a launch, and every visible step.
const POINTS: [Point; 17] = [
    Call("DescribeInstances", 0, "before"),
    Call("DescribeInstances", 0, "after"),
    Call("RunInstances", 0, "before"),
    Call("RunInstances", 0, "after"),
    Call("DescribeInstances", 1, "before"),
    Call("DescribeInstances", 1, "after"),
    Says("is launched"),
    Says("booting"),
    Console("MAGPIE-ENROL v1 tid="),
    Console("MAGPIE-ENROL v1 done"),
    Call("CreateTags", 0, "before"),
    Call("CreateTags", 0, "after"),
    Says("booted in"),
    Says(" run slow-"),
    Says("  ["),
    Call("CreateTags", 1, "before"),
    Call("CreateTags", 1, "after"),
];

/// The subset for the normal test.
const SHORT: [usize; 5] = [3, 8, 10, 13, 15];

fn kill_at(lab: &Ec2Lab, fleet: &Fleet, point: Point) {
    if let Call(action, skip, when) = point {
        lab.faults(&json!([{ "action": action, "skip": skip, "times": 1, "kill": when }]));
    }
    let known: Vec<String> = lab.instances().into_iter().map(|instance| instance.id).collect();
    let mut child = fleet.spawn(&["provision", "--role", "slow"]);
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    match point {
        // The lab kills the controller.
        Call(..) => drop(stderr.lines().count()),
        Says(text) => {
            let mut lines = stderr.lines();
            let said = lines.by_ref().map_while(Result::ok).find(|line| line.contains(text));
            child.kill().expect("killed");
            assert!(said.is_some(), "it never says {text:?}");
        }
        Console(text) => {
            until_new_console_has(lab, &known, text);
            child.kill().expect("killed");
        }
    }
    let ended = child.wait().expect("waited for");
    assert_eq!(ended.signal(), Some(SIGKILL), "{point:?}: it ended before");
    lab.faults(&json!([]));
}

#[track_caller]
fn until_new_console_has(lab: &Ec2Lab, known: &[String], text: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let fresh = lab.instances().into_iter().filter(|instance| !known.contains(&instance.id));
        let said = fresh.filter_map(|instance| Some(lab.console(&instance.host?)));
        if said.into_iter().any(|console| console.contains(text)) {
            return;
        }
        assert!(Instant::now() < deadline, "no console has {text:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Kills `ctl` there, and lets the next `provision` finish: one more host than before.
fn next_provision_finishes(lab: &Ec2Lab, fleet: &Fleet, point: Point) {
    kill_at(lab, fleet, point);
    let finished = listed(fleet, "standing").iter().filter(|standing| *standing == "used").count();
    fleet.ok(&["provision", "--role", "slow"]);
    all_are_used(lab, fleet, finished + 1, &format!("{point:?}"));
}

/// Kills `ctl` there, and lets `gc` clean up: only complete hosts are left.
fn gc_clears_up(lab: &Ec2Lab, fleet: &Fleet, point: Point) {
    kill_at(lab, fleet, point);
    fleet.ok(&["gc", "--yes"]);
    let left = listed(fleet, "standing");
    assert!(left.iter().all(|standing| standing == "used" || standing == "idle"), "{point:?}: {left:?}");
    assert_eq!(left.len(), lab.alive().len(), "{point:?}");
    assert_eq!(fleet.json(&["gc"]), Vec::<Value>::new(), "{point:?}");
}

fn destroy_all(lab: &Ec2Lab, fleet: &Fleet) {
    let names = listed(fleet, "name");
    if !names.is_empty() {
        fleet.ok(&["destroy", "--yes"]
            .into_iter()
            .chain(names.iter().map(String::as_str))
            .collect::<Vec<_>>());
    }
    assert!(lab.alive().is_empty());
}

#[test]
fn the_next_controller_finishes_what_a_killed_one_began() {
    let (lab, fleet) = lab_and_fleet();
    for (round, point) in SHORT.map(|index| POINTS[index]).into_iter().enumerate() {
        if round % 2 == 0 {
            next_provision_finishes(&lab, &fleet, point);
        } else {
            gc_clears_up(&lab, &fleet, point);
        }
        destroy_all(&lab, &fleet);
    }
}

/// The whole matrix, three times.
#[test]
#[ignore = "takes a quarter of an hour; `make soak` runs it"]
fn no_point_to_be_killed_at_is_a_bad_one() {
    let (lab, fleet) = lab_and_fleet();
    for round in 0..3 {
        for point in POINTS {
            let started = Instant::now();
            next_provision_finishes(&lab, &fleet, point);
            destroy_all(&lab, &fleet);
            gc_clears_up(&lab, &fleet, point);
            destroy_all(&lab, &fleet);
            eprintln!("round {round}: {point:?} in {:.1} s", started.elapsed().as_secs_f64());
        }
    }
}
