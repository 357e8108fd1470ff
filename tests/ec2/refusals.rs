//! Refusals and delays of EC2: the right result, and a message that says what to do.

use std::fs;

use serde_json::{Value, json};
use tests::{Fleet, Outcome, ec2::Ec2Lab};

use crate::setup::{all_are_used, lab_and_fleet, listed, with_types};

fn error(status: u16, code: &str, message: &str) -> Value {
    json!({ "status": status, "code": code, "message": message })
}

fn provision(fleet: &Fleet) -> Outcome {
    fleet.ctl(&["provision", "--role", "quick"])
}

/// Output without the parts that change from run to run.
fn told(lab: &Ec2Lab, outcome: &Outcome) -> String {
    let text = outcome.stderr.replace(&lab.endpoint(), "ENDPOINT");
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let plain = words.map(|word| {
        let (name, rest) =
            word.split_at(word.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(word.len()));
        let id = name.split_once('-').is_some_and(|(kind, hex)| {
            ["i", "ami"].contains(&kind)
                && hex.len() == 17
                && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        let uuid = name.len() == 36 && name.split('-').count() == 5;
        if uuid {
            format!("UUID{rest}")
        } else if id {
            format!("{}-…{rest}", name.split('-').next().unwrap_or_default())
        } else {
            word.to_owned()
        }
    });
    format!("exit code {}\n{}", outcome.code, plain.collect::<String>())
}

#[test]
fn refusals_end_with_a_sentence_each_and_nothing_launched() {
    let (lab, fleet) = lab_and_fleet();
    let ways = [
        (
            "no_rights",
            "RunInstances",
            error(
                403,
                "UnauthorizedOperation",
                "You are not authorized to perform this operation. User: arn:aws:iam::123456789012:user/ci is not authorized to perform: ec2:RunInstances on resource: arn:aws:ec2:eu-central-1:123456789012:instance/* because no identity-based policy allows the ec2:RunInstances action",
            ),
        ),
        (
            "quota",
            "RunInstances",
            error(
                400,
                "VcpuLimitExceeded",
                "You have requested more vCPU capacity than your current vCPU limit of 32 allows for the instance bucket that the specified instance type belongs to.",
            ),
        ),
        (
            "no_capacity",
            "RunInstances",
            error(
                500,
                "InsufficientInstanceCapacity",
                "We currently do not have sufficient t3.small capacity in the Availability Zone you requested.",
            ),
        ),
        ("expired", "*", error(400, "RequestExpired", "Request has expired.")),
        (
            "wrong_key",
            "*",
            error(401, "AuthFailure", "AWS was not able to validate the provided access credentials"),
        ),
    ];
    for (name, action, error) in ways {
        lab.faults(&json!([{ "action": action, "error": error }]));
        insta::assert_snapshot!(name, told(&lab, &provision(&fleet)));
        assert!(lab.alive().is_empty(), "{name}");
    }
}

#[test]
fn the_wrong_region_has_none_of_our_images() {
    let (lab, fleet) = lab_and_fleet();
    let file = fleet.directory().join("magpie.toml");
    let config = fs::read_to_string(&file).expect("read");
    fs::write(&file, config.replace("[ec2]\n", "[ec2]\nregion = \"us-east-1\"\n")).expect("written");
    insta::assert_snapshot!("wrong_region", told(&lab, &provision(&fleet)));
    assert!(lab.alive().is_empty());
}

#[test]
fn a_type_without_capacity_is_followed_by_the_next() {
    let (lab, fleet) = with_types(r#"["m7i.large", "t3.small"]"#);
    lab.faults(&json!([{
        "action": "RunInstances",
        "where": { "InstanceType": "m7i.large" },
        "error": error(500, "InsufficientInstanceCapacity", "We currently do not have sufficient capacity."),
    }]));
    fleet.ok(&["provision", "--role", "quick"]);
    assert_eq!(lab.alive()[0].class, "t3.small");
    let launches: Vec<_> = lab.calls().into_iter().filter(|call| call.action == "RunInstances").collect();
    assert_eq!(launches.len(), 2, "what has no capacity is not asked again: {launches:?}");
}

#[test]
fn throttling_of_every_third_call_is_only_slow() {
    let (lab, fleet) = lab_and_fleet();
    lab.faults(&json!([{
        "probability": 0.3,
        "seed": 7,
        "error": error(503, "RequestLimitExceeded", "Request limit exceeded."),
    }]));
    fleet.ok(&["provision", "--role", "quick", "--count", "3"]);
    fleet.ok(&["release", "quick-1"]);
    fleet.ok(&["provision", "--role", "quick"]);
    lab.faults(&json!([]));
    all_are_used(&lab, &fleet, 3, "throttled");
    let throttled = lab.calls().iter().filter(|call| call.outcome.as_deref() != Some("ok")).count();
    assert!(throttled > 3, "only {throttled} calls were throttled");
}

#[test]
fn describe_calls_that_lag_ten_seconds_make_no_host_twice() {
    let (lab, fleet) = lab_and_fleet();
    lab.settings(&json!({ "lag": 10 }));
    fleet.ok(&["provision", "--role", "quick"]);
    // The first instance and its tags are not visible yet.
    fleet.ok(&["provision", "--role", "quick"]);
    lab.settings(&json!({ "lag": 0 }));
    std::thread::sleep(std::time::Duration::from_secs(10));
    all_are_used(&lab, &fleet, 2, "after the lag");
    // Two hosts launched without seeing each other may get the same name; then the name is ambiguous.
    let names: std::collections::BTreeSet<String> = listed(&fleet, "name").into_iter().collect();
    if names.len() == 1 {
        let asked = fleet.exits(2, &["stop", "quick-1"]);
        assert!(listed(&fleet, "id").iter().all(|id| asked.stderr.contains(id)), "{}", asked.stderr);
    }
}

#[test]
fn a_lost_answer_launches_one_instance() {
    let (lab, fleet) = lab_and_fleet();
    lab.faults(&json!([{ "action": "RunInstances", "times": 1, "lose": true }]));
    fleet.ok(&["provision", "--role", "quick"]);
    let launches = lab.calls().iter().filter(|call| call.action == "RunInstances").count();
    assert_eq!((launches, lab.instances().len()), (2, 1), "asked twice with one token");
    all_are_used(&lab, &fleet, 1, "the answer was lost");
}
