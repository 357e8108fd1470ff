//! Bakes an image from a plain distribution, with the real user-data and cloud-init, and launches a host from it.

use std::{fs, process::Command};

use serde_json::json;
use tests::{Fleet, ec2::Ec2Lab, repository, target_dir};

use crate::setup::all_are_used;

/// A package of the agent under test.
fn package(lab: &Ec2Lab) -> (String, String) {
    let output = lab.directory().join("packages");
    let made = Command::new("sh")
        .arg(repository("deploy/packages/build.sh"))
        .arg("--fast")
        .args([target_dir(), output.clone()])
        .output()
        .expect("sh starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let is_agent = |name: &str| name.starts_with("magpie-agent") && name.ends_with(".deb");
    let mut files = fs::read_dir(&output).expect("read").map(|entry| entry.expect("read").path());
    let file =
        files.find(|path| is_agent(&path.file_name().unwrap_or_default().to_string_lossy())).expect("a .deb");
    let sum = Command::new("sha256sum").arg(&file).output().expect("runs").stdout;
    let sum = String::from_utf8_lossy(&sum).split(' ').next().expect("a digest").to_owned();
    (lab.publish(&file), sum)
}

#[test]
fn from_a_plain_distribution_to_a_host_by_way_of_an_image() {
    let lab = Ec2Lab::new();
    let base = lab.base_image(&json!({}));
    let (url, sum) = package(&lab);
    let bake =
        format!("[ec2.bake]\nbase = {base:?}\npackage = {url:?}\nsha256 = {sum:?}\n[roles.quick.ec2]\n");
    let fleet = Fleet::on(&lab, &repository("tests/fixtures/control"), &bake);

    fleet.ok(&["bake", "--provider", "ec2"]);
    assert!(lab.alive().is_empty(), "builder and trial have ended");
    fleet.ok(&["provision", "--role", "quick"]);
    all_are_used(&lab, &fleet, 1, "from the baked image");

    // The existing image is found: nothing is launched.
    lab.forget_calls();
    fleet.ok(&["bake", "--provider", "ec2"]);
    assert!(lab.calls().iter().all(|call| call.action.starts_with("Describe")), "{:?}", lab.calls());
}
