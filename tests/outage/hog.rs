//! A process that allocates all memory of a local host until the kernel kills it.

use std::{collections::BTreeMap, fs};

use jiff::Timestamp;
use serde_json::Value;
use tests::{Fleet, repository};

/// Allocates and touches 80 MiB per second.
const HOG: &str = r#"while (1) { push @held, "x" x (8 << 20); select undef, undef, undef, 0.1 }"#;

#[test]
fn a_memory_hog_is_on_record_until_the_kernel_kills_it() {
    let fleet = Fleet::new(&repository("tests/fixtures/control"), &["quick"]);
    let config = fleet.directory().join("magpie.toml");
    let text = fs::read_to_string(&config).expect("the fleet has one");
    fs::write(&config, text.replace("memory = \"1G\"", "memory = \"613M\"")).expect("written");
    fleet.ok(&["provision", "--role", "quick"]);
    fleet.exits(137, &["run", "quick-1", "--", "perl", "-e", HOG]);
    // The recorder's next sample comes after this.
    fleet.ok(&["run", "quick-1", "--", "sleep", "2"]);

    let lines = fleet.json(&["cpu-log", "quick-1", "--since", "5m", "--top", "1000", "--sort", "memory"]);
    let is = |line: &&Value, kinds: &[&str]| kinds.iter().any(|kind| line["type"] == *kind);
    let broken: Vec<&Value> = lines.iter().filter(|line| is(line, &["gap", "restart", "lost"])).collect();
    assert!(broken.is_empty(), "{broken:?}");
    let lines: Vec<Value> = lines.iter().filter(|line| is(line, &["process"])).cloned().collect();
    let mut samples: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for line in &lines {
        samples.entry(line["at"].as_str().expect("a time")).or_default().push(line);
    }
    let gap = longest_gap_s(samples.keys());
    let (at, most) = biggest(&lines);
    let (_, after) = samples.last_key_value().expect("there are samples");
    println!(
        "hog: {} samples, longest gap {gap:.2} s, {} held {} MiB at {at}",
        samples.len(),
        most.0,
        most.1 >> 20
    );
    assert!(gap <= 3.0, "nothing was recorded for {gap:.2} s");
    assert_eq!(most.0, "perl");
    assert!(most.1 > 400 << 20, "the hog was not seen to grow");
    assert!(after.iter().all(|line| line["name"] != "perl"), "the hog is still there");
    named_by_what_such_a_host_has(&fleet);
    blamed(&fleet);
}

/// The verdict is the hog, and says what such a host cannot know.
fn blamed(fleet: &Fleet) {
    let verdicts = fleet.json(&["diagnose", "quick-1"]);
    let first = verdicts.first().expect("a verdict");
    assert_eq!(first["class"], "memory-growth", "{first}");
    assert_eq!(first["cause"]["process"]["name"], "perl", "{first}");
    let unknown = first["unknown"].as_array().expect("a list");
    assert!(unknown.iter().any(|unknown| unknown == "kernel-log"), "{first}");
}

/// A local host has no kernel log, so the kill is inferred from the counter of its control group. Victim and biggest
/// memory user come from the samples.
fn named_by_what_such_a_host_has(fleet: &Fleet) {
    let told = fleet.ok(&["oom", "quick-1"]);
    assert!(told.contains("inferred: this host has no kernel log"), "{told}");
    assert!(!told.contains(" MiB of "), "a size from before the kill is no share of the memory: {told}");
    let kills = fleet.json(&["oom", "quick-1"]);
    let is_hog = |named: &Value| named["name"] == "perl";
    let found = kills.iter().any(|kill| is_hog(&kill["candidates"][0]) && is_hog(&kill["biggest"]));
    assert!(found, "{told}");
}

/// The biggest memory user at any time, and when.
fn biggest(lines: &[Value]) -> (&str, (&str, u64)) {
    let held = |line: &Value| line["resident_bytes"].as_u64().expect("a size");
    let line = lines.iter().max_by_key(|line| held(line)).expect("there are processes");
    (line["at"].as_str().expect("a time"), (line["name"].as_str().expect("a name"), held(line)))
}

/// Longest time between two consecutive samples, in seconds.
fn longest_gap_s<'a>(at: impl Iterator<Item = &'a &'a str>) -> f64 {
    let times: Vec<Timestamp> = at.map(|at| at.parse().expect("a time")).collect();
    let gaps = times.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs_f64());
    gaps.fold(0.0, f64::max)
}
