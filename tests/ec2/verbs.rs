//! Every verb on EC2: it works, without unnecessary API calls.

use std::collections::BTreeMap;

use tests::{Fleet, ec2::Ec2Lab};

use crate::setup::{all_are_used, lab_and_fleet, listed};

/// Runs a verb; returns the number of calls of each operation.
#[track_caller]
fn calls_of(lab: &Ec2Lab, fleet: &Fleet, args: &[&str]) -> BTreeMap<String, usize> {
    lab.forget_calls();
    fleet.ok(args);
    let mut counts = BTreeMap::new();
    for call in lab.calls() {
        assert_eq!(call.outcome.as_deref(), Some("ok"), "{call:?}");
        *counts.entry(call.action).or_default() += 1;
    }
    counts
}

#[track_caller]
fn calls<const N: usize>(lab: &Ec2Lab, fleet: &Fleet, args: &[&str], expected: [(&str, usize); N]) {
    let expected = expected.map(|(action, count)| (action.to_owned(), count)).into();
    assert_eq!(calls_of(lab, fleet, args), expected, "{args:?}");
}

/// As `calls`, for a verb that waits for an instance: the number of Describe calls depends on the waiting time.
#[track_caller]
fn calls_and_looks<const N: usize>(lab: &Ec2Lab, fleet: &Fleet, args: &[&str], expected: [(&str, usize); N]) {
    let mut found = calls_of(lab, fleet, args);
    let looks: usize =
        ["DescribeInstances", "DescribeImages"].iter().filter_map(|look| found.remove(*look)).sum();
    assert!((1..=9).contains(&looks), "{args:?}: {looks} looks");
    assert_eq!(found, expected.map(|(action, count)| (action.to_owned(), count)).into(), "{args:?}");
}

#[test]
fn from_a_role_to_hosts_and_back_with_the_calls_that_takes() {
    let (lab, fleet) = lab_and_fleet();
    calls(&lab, &fleet, &["provision", "--role", "quick"], LAUNCHED_ONE);
    all_are_used(&lab, &fleet, 1, "launched");
    for verb in [&["hosts"][..], &["apply", "quick-1"], &["run", "quick-1", "--", "true"], &["status"]] {
        calls(&lab, &fleet, verb, [("DescribeInstances", 1)]);
    }

    // The released host is reused: no launch, and a new address.
    let (id, before) = (listed(&fleet, "id"), listed(&fleet, "address"));
    calls_and_looks(&lab, &fleet, &["release", "quick-1"], [("CreateTags", 1), ("StopInstances", 1)]);
    calls_and_looks(
        &lab,
        &fleet,
        &["provision", "--role", "quick"],
        [("CreateTags", 2), ("StartInstances", 1)],
    );
    assert_eq!(listed(&fleet, "id"), id, "no other was launched");
    assert_ne!(listed(&fleet, "address"), before, "EC2 gives another address at each start");
    all_are_used(&lab, &fleet, 1, "used again");

    // Stopped and started: another new address, but the same identity.
    calls_and_looks(&lab, &fleet, &["stop", "quick-1"], [("StopInstances", 1)]);
    assert_eq!(listed(&fleet, "state"), ["stopped"]);
    calls_and_looks(&lab, &fleet, &["start", "quick-1"], [("StartInstances", 1)]);
    fleet.ok(&["apply", "quick-1"]);

    // Three hosts at once: one list, then three single launches.
    calls(
        &lab,
        &fleet,
        &["provision", "--role", "quick", "--count", "3"],
        [("CreateTags", 6), ("DescribeInstances", 4), ("RunInstances", 3)],
    );
    all_are_used(&lab, &fleet, 4, "three more");

    calls(&lab, &fleet, &["gc"], [("DescribeInstances", 1)]);
    calls(
        &lab,
        &fleet,
        &["destroy", "--yes", "quick-1", "quick-2", "quick-3", "quick-4"],
        [("DescribeInstances", 1), ("TerminateInstances", 4)],
    );
    assert!(lab.alive().is_empty());
}

/// A list of existing hosts, the launch, a check that the name is unique, and one tag each for enrolment and use.
const LAUNCHED_ONE: [(&str, usize); 3] = [("CreateTags", 2), ("DescribeInstances", 2), ("RunInstances", 1)];

#[test]
fn a_clone_is_a_host_of_its_own() {
    let (lab, fleet) = lab_and_fleet();
    fleet.ok(&["provision", "--role", "quick"]);
    fleet.ok(&["run", "quick-1", "--", "sh", "-c", "echo mine >/etc/kept"]);
    calls_and_looks(
        &lab,
        &fleet,
        &["clone", "quick-1"],
        [
            ("CreateImage", 1),
            ("CreateTags", 2),
            ("DeleteSnapshot", 1),
            ("DeregisterImage", 1),
            ("RunInstances", 1),
        ],
    );
    all_are_used(&lab, &fleet, 2, "cloned");
    let kept = fleet.ok(&["run", "quick-2", "--", "cat", "/etc/kept"]);
    assert!(kept.contains("mine"), "{kept}");
    fleet.ok(&["apply", "--all"]);
}
