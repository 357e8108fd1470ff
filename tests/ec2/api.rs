//! EC2 as seen by a client other than Magpie.

use std::{process::Command, thread, time::Duration};

use serde_json::{Value, json};
use tests::{
    ec2::{Ec2Lab, python},
    repository,
};

/// Calls an operation with boto3's parameters; returns boto3's answer. An error is `{"error": code}`.
pub(crate) fn call(lab: &Ec2Lab, operation: &str, parameters: &Value) -> Value {
    let mut client = Command::new(python());
    client.arg(repository("tests/ec2/client.py")).args([operation, &parameters.to_string()]);
    let output = client.envs(lab.environment()).output().expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Launches one instance.
pub(crate) fn run(lab: &Ec2Lab, image: &str, more: &Value) -> Value {
    let mut parameters =
        json!({ "ImageId": image, "MinCount": 1, "MaxCount": 1, "InstanceType": "t3.small" });
    parameters.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    call(lab, "run_instances", &parameters)
}

/// Id of the instance.
pub(crate) fn id(reservation: &Value) -> String {
    reservation["Instances"][0]["InstanceId"].as_str().unwrap_or_else(|| panic!("{reservation}")).to_owned()
}

/// Console output of the instance.
pub(crate) fn console(lab: &Ec2Lab, id: &str) -> String {
    let said = call(lab, "get_console_output", &json!({ "InstanceId": id }));
    said["Output"].as_str().unwrap_or_default().to_owned()
}

/// Waits until the console contains this text.
#[track_caller]
pub(crate) fn until_console_has(lab: &Ec2Lab, id: &str, text: &str) {
    for _ in 0..40 {
        if console(lab, id).contains(text) {
            return;
        }
        thread::sleep(Duration::from_millis(250));
    }
    panic!("{text:?} is not on the console of {id}:\n{}\n{}", console(lab, id), lab.log());
}
