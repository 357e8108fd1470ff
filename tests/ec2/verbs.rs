//! Every verb on EC2: that it does what it says, and with which calls.

use serde_json::json;
use tests::{Fleet, ec2::Ec2Lab, repository};

/// A lab with the agent's image, and a fleet whose role boots it.
fn lab_and_fleet() -> (Ec2Lab, Fleet) {
    let lab = Ec2Lab::new();
    let image = lab.agent_image(&json!({}));
    let roles = format!("[roles.quick.ec2]\nimage = {image:?}\ninstance_type = \"t3.small\"\n");
    let fleet = Fleet::on(&lab, &repository("tests/fixtures/control"), &roles);
    (lab, fleet)
}

/// Runs a verb, and returns the calls it made: each with how often it was made in a row.
#[track_caller]
fn calls_of(lab: &Ec2Lab, fleet: &Fleet, args: &[&str]) -> String {
    lab.forget_calls();
    let started = std::time::Instant::now();
    let out = fleet.exits(0, args);
    eprintln!("{args:?} {:?}\n{}{}", started.elapsed(), out.stdout, out.stderr);
    let calls: Vec<String> = lab.calls().into_iter().map(|call| call.action).collect();
    eprintln!("{calls:?}");
    calls.join(" ")
}

#[test]
fn from_a_role_to_a_host_and_back() {
    let (lab, fleet) = lab_and_fleet();
    calls_of(&lab, &fleet, &["provision", "--role", "quick"]);
    calls_of(&lab, &fleet, &["hosts"]);
    calls_of(&lab, &fleet, &["apply", "quick-1"]);
    calls_of(&lab, &fleet, &["release", "quick-1"]);
    calls_of(&lab, &fleet, &["provision", "--role", "quick"]);
    calls_of(&lab, &fleet, &["stop", "quick-1"]);
    calls_of(&lab, &fleet, &["start", "quick-1"]);
    calls_of(&lab, &fleet, &["provision", "--role", "quick", "--count", "3"]);
    calls_of(&lab, &fleet, &["destroy", "quick-1", "quick-2", "quick-3", "quick-4"]);
}
