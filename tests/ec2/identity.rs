//! A disk copied without Magpie has the original's identity; the copy must not use it.

use std::{fs, time::Duration};

use serde_json::json;

use crate::{
    api::{call, id, run},
    setup::{lab_and_fleet, listed},
};

#[test]
fn a_copy_of_the_disk_cannot_speak_as_the_original() {
    let (lab, fleet) = lab_and_fleet();
    fleet.ok(&["provision", "--role", "quick"]);
    let original = lab.alive().remove(0);
    let make = json!({ "InstanceId": original.id, "Name": "copied", "NoReboot": true });
    let image = call(&lab, "create_image", &make)["ImageId"].as_str().expect("an AMI").to_owned();
    let state =
        || call(&lab, "describe_images", &json!({ "ImageIds": [image] }))["Images"][0]["State"].clone();
    while state() == "pending" {}
    let copy = id(&run(&lab, &image, &json!({})));
    let copy = lab.wait_for(&copy, "running", Duration::from_secs(20));

    // The copy takes the original's address: connections to that address reach the copy.
    let address = listed(&fleet, "address").concat();
    let routes = lab.state().join("addresses");
    let host = copy.host.expect("a host");
    fs::write(routes.join(&address), &host).expect("written");
    let refused = fleet.ctl(&["apply", "quick-1"]);
    assert_eq!(refused.code, 3, "{}{}", refused.stdout, refused.stderr);
    let console = lab.console(&host);
    assert!(console.contains("this disk was cloned; the identity is in quarantine"), "{console}");

    // The original still answers.
    fs::write(routes.join(&address), original.host.expect("a host")).expect("written");
    fleet.ok(&["apply", "quick-1"]);
}
