//! Many controllers that compete for few hosts.

use std::{collections::BTreeSet, process::Child};

use tests::Outcome;

use crate::setup::{all_are_used, lab_and_fleet, listed};

#[test]
fn ten_controllers_use_five_stopped_instances_and_launch_five() {
    let (lab, fleet) = lab_and_fleet();
    fleet.ok(&["provision", "--role", "quick", "--count", "5"]);
    let pool: BTreeSet<String> = listed(&fleet, "id").into_iter().collect();
    fleet.ok(&["release", "quick-1", "quick-2", "quick-3", "quick-4", "quick-5"]);
    assert_eq!(listed(&fleet, "state"), ["stopped"; 5]);

    lab.forget_calls();
    let controllers: Vec<Child> = (0..10).map(|_| fleet.spawn(&["provision", "--role", "quick"])).collect();
    for controller in controllers {
        let outcome = Outcome::from(controller.wait_with_output().expect("ends"));
        assert_eq!(outcome.code, 0, "{}\n{:#?}", outcome.stderr, lab.calls());
    }
    // Ten controllers succeeded, and ten hosts are in use: none is shared.
    all_are_used(&lab, &fleet, 10, "ten at once");
    let all: BTreeSet<String> = listed(&fleet, "id").into_iter().collect();
    assert!(pool.is_subset(&all), "the five are among the ten");
    let launches = lab.calls().iter().filter(|call| call.action == "RunInstances").count();
    assert_eq!(launches, 5, "five were used again, five launched");
}
