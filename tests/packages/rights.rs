//! AWS permissions: the policy and the table in its README must match.

use std::{collections::BTreeSet, fs};

use tests::repository;

fn policy() -> Vec<serde_json::Value> {
    let text = fs::read_to_string(repository("deploy/aws/iam-policy.json")).expect("read");
    let policy: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    policy["Statement"].as_array().expect("a list").clone()
}

/// The words in backticks in one column of the table.
fn column(number: usize) -> BTreeSet<String> {
    let text = fs::read_to_string(repository("deploy/aws/README.md")).expect("read");
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    rows.flat_map(|row| {
        let cell = row.split('|').nth(number).expect("three columns");
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    })
    .collect()
}

fn actions(statement: &serde_json::Value) -> Vec<String> {
    let action = &statement["Action"];
    let list = action.as_array().cloned().unwrap_or_else(|| vec![action.clone()]);
    list.iter().map(|action| action.as_str().expect("a name").to_owned()).collect()
}

#[test]
fn the_table_names_every_statement_and_every_call() {
    let policy = policy();
    let sids: BTreeSet<String> =
        policy.iter().map(|statement| statement["Sid"].as_str().expect("a Sid").to_owned()).collect();
    assert_eq!(sids.len(), policy.len(), "two statements have one Sid");
    assert_eq!(sids, column(3));
    let calls: BTreeSet<String> = policy
        .iter()
        .flat_map(actions)
        .map(|action| action.split(':').nth(1).expect("service:call").to_owned())
        .collect();
    // The table lists the call during which the tags are set.
    assert_eq!(calls, column(2));
}

#[test]
fn nothing_that_is_not_the_fleets_can_be_changed() {
    let harmless = ["ec2:Describe", "ssm:GetParameter"];
    // Other resources of RunInstances and PassRole than the new instance have no fleet tag.
    let elsewhere = ["LaunchInto", "LaunchProfile"];
    for statement in policy() {
        let sid = statement["Sid"].as_str().expect("a Sid");
        let actions = actions(&statement);
        assert!(actions.iter().all(|action| !action.contains('*')), "{sid} gives whole families of calls");
        if actions.iter().all(|action| harmless.iter().any(|prefix| action.starts_with(prefix)))
            || elsewhere.contains(&sid)
        {
            continue;
        }
        let condition = statement["Condition"].to_string();
        assert!(
            condition.contains("Tag/magpie:fleet\":\"?*\""),
            "{sid} does not ask for the tag: {condition}"
        );
    }
}
