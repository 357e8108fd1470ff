//! Benchmarks of recording every process every second: costs of Magpie's recorder with both collectors and of other recorders,
//! short-lived processes, and queries over a day.
//!
//! `bench-recorder [sizes|churn|queries]…` prints a Markdown section with these parts, or with all. Needs root and version 2
//! control groups. With `MAGPIE_BENCH_QUICK` in the environment it takes a minute, and its figures are not representative.

mod churn;
mod day;
mod measure;
mod meter;
mod queries;
mod random;
mod recorders;
mod report;
mod seal;
mod sizes;
mod workload;

use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Any failure ends the benchmark.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Extent of the benchmarks.
struct Plan {
    /// Numbers of processes, in addition to the machine's own.
    sizes: &'static [usize],
    /// Time to measure a recorder, in seconds; at least its own period.
    seconds: u64,
    /// Number of runs for medians that goals apply to.
    rounds: usize,
    /// Duration of the churn, in seconds.
    churn_seconds: u64,
    /// Length of the simulated day, in seconds.
    day_seconds: u64,
}

const FULL: Plan = Plan {
    sizes: &[200, 2_000, 10_000],
    seconds: 15,
    rounds: 3,
    churn_seconds: 10,
    day_seconds: day::SECONDS,
};

const QUICK: Plan =
    Plan { sizes: &[200, 2_000], seconds: 4, rounds: 1, churn_seconds: 3, day_seconds: 2 * 3_600 };

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["busy", seed] => workload::busy(seed.parse().unwrap_or(0)),
        ["day", directory] => queries::write(directory.as_ref(), day::SECONDS).map(drop),
        _ => run(&words),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If stderr is closed, the error cannot be reported.
            let _ = writeln!(io::stderr(), "bench-recorder: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(parts: &[&str]) -> Result<()> {
    if let Some(unknown) = parts.iter().find(|part| !["sizes", "churn", "queries"].contains(part)) {
        return Err(format!("there is no part {unknown}: sizes, churn, queries").into());
    }
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    let plan = if std::env::var_os("MAGPIE_BENCH_QUICK").is_some() { QUICK } else { FULL };
    let scratch = tempfile::Builder::new().prefix("magpie-bench-").tempdir()?;
    let out = &mut io::stdout().lock();
    writeln!(out, "\n## Recorder\n")?;
    if wanted("sizes") {
        report::sizes(out, &sizes::measure(&plan, scratch.path())?, &plan)?;
    }
    if wanted("churn") {
        let ours = recorders::ours(0)?;
        let churns = ours.iter().map(|recorder| churn::churn(recorder, plan.churn_seconds, scratch.path()));
        report::churn(out, ours.iter().map(|recorder| recorder.name).zip(churns))?;
    }
    if wanted("queries") {
        report::queries(out, &queries::ask(&scratch.path().join("day"), plan.day_seconds)?)?;
    }
    Ok(())
}
