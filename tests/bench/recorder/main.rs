//! What recording every process every second costs: Magpie's recorder, with both its collectors, beside what people use today; what
//! it sees of processes that live for a moment; and how fast a day of it answers.
//!
//! `bench-recorder [sizes|churn|queries]…` prints a Markdown section, with the parts that are named, or with all. It needs root, and
//! control groups of version 2. With `MAGPIE_BENCH_QUICK` in the environment it takes a minute and its figures are worth little.

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

/// How much is done.
struct Plan {
    /// Processes, beside those that the machine runs anyway.
    sizes: &'static [usize],
    /// Seconds in which a recorder is watched, at least its own period.
    seconds: u64,
    /// Runs of which the median is taken where something is held to it.
    rounds: usize,
    /// Seconds of churn.
    churn_seconds: u64,
    /// Seconds of the day that is asked about.
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
            // If stderr is closed there is nobody to tell.
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
