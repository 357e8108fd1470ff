//! The lab itself: that it has hosts, and EC2's rules where moto alone is laxer.

use std::{process::Command, thread, time::Duration};

use serde_json::{Value, json};
use tests::ec2::{Ec2Lab, python};
use tests::repository;

const PATIENCE: Duration = Duration::from_secs(20);

/// What the user-data of an instance does here: it proves on the console who it is.
const WHO_AM_I: &str = r#"#!/bin/sh
t=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)
echo "who: $(curl -sf -H "X-aws-ec2-metadata-token: $t" http://169.254.169.254/latest/meta-data/instance-id)" >/dev/console
echo "without: $(curl -s -o /dev/null -w '%{http_code}' http://169.254.169.254/latest/meta-data/instance-id)" >/dev/console
"#;

fn call(lab: &Ec2Lab, operation: &str, parameters: &Value) -> Value {
    let mut client = Command::new(python());
    client.arg(repository("tests/ec2/client.py")).args([operation, &parameters.to_string()]);
    let output = client.envs(lab.environment()).output().expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn run(lab: &Ec2Lab, image: &str, more: &Value) -> Value {
    let mut parameters =
        json!({ "ImageId": image, "MinCount": 1, "MaxCount": 1, "InstanceType": "t3.small" });
    parameters.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    call(lab, "run_instances", &parameters)
}

fn id(reservation: &Value) -> String {
    reservation["Instances"][0]["InstanceId"].as_str().unwrap_or_else(|| panic!("{reservation}")).to_owned()
}

fn console(lab: &Ec2Lab, id: &str) -> String {
    let said = call(lab, "get_console_output", &json!({ "InstanceId": id }));
    said["Output"].as_str().unwrap_or_default().to_owned()
}

#[track_caller]
fn until_console_has(lab: &Ec2Lab, id: &str, text: &str) {
    for _ in 0..40 {
        if console(lab, id).contains(text) {
            return;
        }
        thread::sleep(Duration::from_millis(250));
    }
    panic!("{text:?} is not on the console of {id}:\n{}\n{}", console(lab, id), lab.log());
}

#[test]
fn an_instance_is_a_host_that_lives_as_the_api_says() {
    let lab = Ec2Lab::new();
    let image = lab.agent_image(&json!({}));
    let first = run(&lab, &image, &json!({ "ClientToken": "one", "UserData": "hello" }));
    let id = id(&first);
    assert_eq!(first["Instances"][0]["State"]["Name"], "pending");
    let running = lab.wait_for(&id, "running", PATIENCE);
    assert_eq!(first["Instances"][0]["PrivateIpAddress"].as_str(), running.private.as_deref());
    until_console_has(&lab, &id, "magpie");
    eprintln!("{}", console(&lab, &id));

    // A token launches once, and means one thing.
    assert_eq!(self::id(&run(&lab, &image, &json!({ "ClientToken": "one", "UserData": "hello" }))), id);
    let other = run(&lab, &image, &json!({ "ClientToken": "one", "UserData": "other" }));
    assert_eq!(other["error"], "IdempotentParameterMismatch");
    assert_eq!(lab.instances().len(), 1);

    let ids = json!({ "InstanceIds": [id] });
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
