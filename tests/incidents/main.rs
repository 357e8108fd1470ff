//! Incidents that are made to happen, and what `ctl diagnose` says about them.
//!
//! Each incident is a script in `scripts`, which runs in a virtual machine beside the recorder, with names, sizes and times
//! that vary; `truth` says what happened. `records` holds one recording of each: the built `ctl` reads it, as it would read
//! the disk of a dead host.

mod judge;
mod lab;
mod truth;

use std::{fs, path::PathBuf};

use tests::repository;

use crate::{
    judge::{Outcome, diagnose},
    lab::{Lab, Variation},
    truth::{TRUTHS, Truth},
};

fn records() -> PathBuf {
    repository("tests/incidents/records")
}

#[test]
fn the_culprit_of_every_recorded_incident_is_named() {
    let mut wrong = Vec::new();
    for truth in TRUTHS {
        let directory = records().join(truth.script);
        let name = fs::read_to_string(directory.join("name")).expect("the varied name is beside the record");
        let outcome = Outcome::of(truth, name.trim(), &diagnose(&directory));
        println!("{outcome}");
        if !outcome.is_right() {
            wrong.push(outcome.to_string());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Makes every incident happen anew, with other names and sizes, `INCIDENT_SEEDS` times (1), and judges it. `INCIDENT` selects
/// one script; `INCIDENT_KEEP=1` replaces the recordings in the repository.
#[test]
#[ignore = "takes half an hour: make soak"]
fn the_culprit_of_every_new_incident_is_named() {
    let setting = |name: &str| std::env::var(name).ok();
    let seeds: u64 = setting("INCIDENT_SEEDS").map_or(1, |seeds| seeds.parse().expect("a number"));
    let first: u64 = setting("INCIDENT_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let keeps = setting("INCIDENT_KEEP").is_some();
    let chosen = |truth: &&Truth| setting("INCIDENT").is_none_or(|script| script == truth.script);
    let lab = Lab::new();
    let mut outcomes = Vec::new();
    for seed in first..first + seeds {
        for truth in TRUTHS.iter().filter(chosen) {
            let variation = Variation::of(truth, seed);
            let record = lab.record(truth, &variation);
            let outcome =
                Outcome::of(truth, variation.name, &diagnose(&record.path().join("magpie/history")));
            println!("seed {seed}: {outcome}");
            if keeps {
                lab::keep(&record, &records().join(truth.script), variation.name);
            }
            outcomes.push(outcome);
        }
    }
    let right = outcomes.iter().filter(|outcome| outcome.is_right()).count();
    println!("{right} of {} right", outcomes.len());
    assert_eq!(right, outcomes.len());
}
