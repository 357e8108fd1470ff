//! Waiting for a host takes few API calls.

use serde_json::json;

use crate::setup::lab_and_fleet;

#[test]
fn a_boot_of_twenty_seconds_is_waited_for_with_few_looks() {
    let (lab, fleet) = lab_and_fleet();
    lab.settings(&json!({ "metadata": 20, "pending": 15 }));
    fleet.ok(&["provision", "--role", "quick"]);
    let looks = lab.calls().iter().filter(|call| call.action == "DescribeInstances").count();
    // Two calls belong to launching; the pauses between the others grow from 3 s to 15 s.
    assert!((3..=7).contains(&looks), "DescribeInstances {looks} times");
}
