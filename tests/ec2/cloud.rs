//! Tests of the lab itself: its hosts, and EC2's rules where moto is less strict.

use std::time::Duration;

use serde_json::json;
use tests::ec2::Ec2Lab;

use crate::api::{call, console, id, run, until_console_has};

const PATIENCE: Duration = Duration::from_secs(20);

/// User-data that prints the instance's identity to the console and powers the host off, like an image builder.
const BUILDER: &str = r#"#!/usr/bin/python3
import subprocess, urllib.error, urllib.request as http
service = "http://169.254.169.254/latest/"
seconds = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
token = http.urlopen(http.Request(service + "api/token", method="PUT", headers=seconds)).read().decode()
token = {"X-aws-ec2-metadata-token": token}
me = http.urlopen(http.Request(service + "meta-data/instance-id", headers=token)).read().decode()
try:
    http.urlopen(service + "meta-data/instance-id")
    refused = "nothing"
except urllib.error.HTTPError as error:
    refused = error.code
with open("/etc/built-by", "w") as file:
    file.write(me)
with open("/dev/console", "w") as console:
    print(f"this is {me}, without a token {refused}", file=console)
subprocess.run(["systemctl", "poweroff"])
"#;

#[test]
fn an_instance_is_a_host_that_lives_as_the_api_says() {
    let lab = Ec2Lab::new();
    let image = lab.agent_image(&json!({}));
    let first = run(&lab, &image, &json!({ "ClientToken": "one", "UserData": "hello" }));
    let id = id(&first);
    assert_eq!(first["Instances"][0]["State"]["Name"], "pending");
    let running = lab.wait_for(&id, "running", PATIENCE);
    assert_eq!(first["Instances"][0]["PrivateIpAddress"].as_str(), running.private.as_deref());
    until_console_has(&lab, &id, "MAGPIE-ENROL v1 waiting: there is no enrol document in the user-data");

    // A token launches once, and always with the same parameters.
    assert_eq!(crate::api::id(&run(&lab, &image, &json!({ "ClientToken": "one", "UserData": "hello" }))), id);
    let other = run(&lab, &image, &json!({ "ClientToken": "one", "UserData": "other" }));
    assert_eq!(other["error"], "IdempotentParameterMismatch");
    assert_eq!(lab.instances().len(), 1);

    let ids = json!({ "InstanceIds": [id] });
    lab.settings(&json!({ "stopping": 2 }));
    let stopping = call(&lab, "stop_instances", &ids);
    assert_eq!(stopping["StoppingInstances"][0]["CurrentState"]["Name"], "stopping");
    assert_eq!(call(&lab, "start_instances", &ids)["error"], "IncorrectInstanceState");
    lab.wait_for(&id, "stopped", PATIENCE);
    call(&lab, "start_instances", &ids);
    let again = lab.wait_for(&id, "running", PATIENCE);
    assert_eq!(again.private, running.private);
    assert_ne!(again.public, running.public);

    call(&lab, "terminate_instances", &ids);
    assert_eq!(call(&lab, "start_instances", &ids)["error"], "IncorrectInstanceState");
    lab.wait_for(&id, "terminated", PATIENCE);
    assert_eq!(run(&lab, "ami-12345678", &json!({}))["error"], "InvalidAMIID.NotFound");
}

#[test]
fn a_builder_runs_its_user_data_powers_itself_off_and_becomes_an_image() {
    let lab = Ec2Lab::new();
    let image = lab.base_image(&json!({}));
    let builder = id(&run(
        &lab,
        &image,
        &json!({
            "UserData": BUILDER,
            "MetadataOptions": { "HttpTokens": "required" },
        }),
    ));
    lab.wait_for(&builder, "stopped", PATIENCE);
    let said = console(&lab, &builder);
    assert!(said.contains(&format!("this is {builder}, without a token 401")), "{said}");

    lab.settings(&json!({ "image": 5 }));
    let make = json!({ "InstanceId": builder, "Name": "built" });
    let built = call(&lab, "create_image", &make)["ImageId"].as_str().expect("an AMI").to_owned();
    assert_eq!(call(&lab, "create_image", &make)["error"], "InvalidAMIName.Duplicate");
    assert_eq!(run(&lab, &built, &json!({}))["error"], "InvalidAMIID.Unavailable");
    let state =
        || call(&lab, "describe_images", &json!({ "ImageIds": [built] }))["Images"][0]["State"].clone();
    while state() == "pending" {}
    assert_eq!(state(), "available");
    // The disk is a copy of the builder's, and cloud-init sees that this is another instance.
    let user_data = "#!/bin/sh\necho \"I was made by $(cat /etc/built-by)\" >/dev/console\n";
    let copy = id(&run(&lab, &built, &json!({ "UserData": user_data })));
    until_console_has(&lab, &copy, &format!("I was made by {builder}"));
}

#[test]
fn faults_befall_the_calls_they_are_meant_for() {
    let lab = Ec2Lab::new();
    let image = lab.agent_image(&json!({}));
    lab.faults(&json!([
        { "action": "RunInstances", "where": { "InstanceType": "m7i.large" },
          "error": { "status": 500, "code": "InsufficientInstanceCapacity", "message": "none" } },
        { "action": "Describe*", "skip": 1, "times": 1,
          "error": { "status": 503, "code": "RequestLimitExceeded", "message": "slowly" } },
    ]));
    let refused = run(&lab, &image, &json!({ "InstanceType": "m7i.large" }));
    assert_eq!(refused["error"], "InsufficientInstanceCapacity");
    let describe = || call(&lab, "describe_instances", &json!({}));
    assert!(describe()["error"].is_null());
    assert_eq!(describe()["error"], "RequestLimitExceeded");
    assert!(describe()["error"].is_null());
    let made: Vec<String> = lab.calls().into_iter().map(|call| call.outcome.expect("answered")).collect();
    assert_eq!(made, ["InsufficientInstanceCapacity", "ok", "RequestLimitExceeded", "ok"]);
}

#[test]
fn describe_calls_lag_behind_as_they_may() {
    let lab = Ec2Lab::new();
    let image = lab.agent_image(&json!({}));
    lab.settings(&json!({ "lag": 2.5 }));
    let tagged = json!([{ "ResourceType": "instance", "Tags": [{ "Key": "k", "Value": "old" }] }]);
    let id = id(&run(&lab, &image, &json!({ "TagSpecifications": tagged })));
    let ids = json!({ "InstanceIds": [id] });
    let seen = || {
        let told = call(&lab, "describe_instances", &ids);
        told["Reservations"][0]["Instances"][0]["Tags"][0]["Value"].as_str().map(str::to_owned)
    };
    assert_eq!(call(&lab, "describe_instances", &ids)["error"], "InvalidInstanceID.NotFound");
    while seen().is_none() {}
    assert_eq!(seen().as_deref(), Some("old"));
    call(&lab, "create_tags", &json!({ "Resources": [id], "Tags": [{ "Key": "k", "Value": "new" }] }));
    assert_eq!(seen().as_deref(), Some("old"));
    while seen().as_deref() == Some("old") {}
    assert_eq!(seen().as_deref(), Some("new"));
}
