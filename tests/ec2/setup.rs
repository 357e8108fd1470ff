//! Common setup of the tests.

use serde_json::json;
use tests::{Fleet, ec2::Ec2Lab, repository};

/// A lab with the agent's image, and a fleet whose roles boot from it.
pub(crate) fn lab_and_fleet() -> (Ec2Lab, Fleet) {
    with_types(r#""t3.small""#)
}

/// The same, with these instance types, as in `magpie.toml`.
pub(crate) fn with_types(types: &str) -> (Ec2Lab, Fleet) {
    let lab = Ec2Lab::new();
    let image = lab.agent_image(&json!({}));
    let role = |name: &str| format!("[roles.{name}.ec2]\nimage = {image:?}\ninstance_type = {types}\n");
    let roles = role("quick") + &role("slow");
    let fleet = Fleet::on(&lab, &repository("tests/fixtures/control"), &roles);
    (lab, fleet)
}

/// One field of all hosts that `ctl` lists.
#[track_caller]
pub(crate) fn listed(fleet: &Fleet, field: &str) -> Vec<String> {
    let text = |host: &serde_json::Value| host[field].as_str().unwrap_or_default().to_owned();
    fleet.json(&["hosts"]).iter().map(text).collect()
}

/// Asserts that the fleet knows all existing instances, and that each is in use.
#[track_caller]
pub(crate) fn all_are_used(lab: &Ec2Lab, fleet: &Fleet, count: usize, when: &str) {
    let (mut ids, mut alive) =
        (listed(fleet, "id"), lab.alive().into_iter().map(|it| it.id).collect::<Vec<_>>());
    ids.sort();
    alive.sort();
    assert_eq!(ids, alive, "{when}: what is listed is what is there");
    assert_eq!(listed(fleet, "standing"), vec!["used"; count], "{when}");
}
