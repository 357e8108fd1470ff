//! Benchmark: time to copy a Puppet tree to a host, with Magpie and with other tools.
//!
//! All tools run over loopback in rounds, each round with new destinations. The table shows medians, so a busy machine slows
//! all of them alike. Prints a Markdown section. The tree has 3,000 files and 20 MB: 2,700 small text files and 300
//! incompressible files of 40 kB.

mod competitors;
mod magpie;
mod report;
mod sshd;
mod tree;

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

/// Number of rounds; the table shows medians.
const ROUNDS: usize = 5;

/// Any failure ends the benchmark.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A tool that copies the tree to a destination: the first time, unchanged, and with one changed file.
trait Pusher {
    /// Name of the row.
    fn name(&self) -> &'static str;
    /// Prepares a new, empty destination.
    fn fresh(&mut self, scratch: &Path) -> Result<()>;
    /// Copies `tree` to the destination.
    fn push(&mut self, tree: &Path) -> Result<()>;
    /// Path of the copied tree.
    fn destination(&self) -> std::path::PathBuf;
    /// Parts of each push so far; only Magpie reports them.
    fn phases(&self) -> &[magpie::Phases] {
        &[]
    }
}

/// Times of one tool, in the order of the columns.
#[derive(Default)]
struct Times {
    first: Vec<Duration>,
    again: Vec<Duration>,
    changed: Vec<Duration>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If stderr is closed, the error cannot be reported.
            let _ = writeln!(io::stderr(), "bench-push: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("magpie-bench-").tempdir()?;
    let source = scratch.path().join("source");
    tree::make(&source)?;
    let sshd = sshd::Sshd::start(scratch.path())?;
    let mut pushers: Vec<Box<dyn Pusher>> = vec![
        Box::new(magpie::Magpie::new(scratch.path())?),
        Box::new(competitors::TarOverSsh::new(&sshd)),
        Box::new(competitors::Rsync::new(&sshd)),
    ];
    let mut skipped = Vec::new();
    match competitors::Synchronize::new(&sshd, scratch.path())? {
        Some(synchronize) => pushers.push(Box::new(synchronize)),
        None => skipped.push("ansible synchronize"),
    }
    let mut times: Vec<Times> = pushers.iter().map(|_| Times::default()).collect();
    for round in 0..ROUNDS {
        for (index, (pusher, times)) in pushers.iter_mut().zip(&mut times).enumerate() {
            let place = scratch.path().join(format!("round-{round}-{index}"));
            std::fs::create_dir(&place)?;
            measure(pusher.as_mut(), times, &place, &source, round)?;
            std::fs::remove_dir_all(&place)?;
        }
    }
    report::write(&mut io::stdout().lock(), &pushers, times, &skipped)?;
    Ok(())
}

/// One round of one tool.
fn measure(
    pusher: &mut dyn Pusher,
    times: &mut Times,
    place: &Path,
    source: &Path,
    round: usize,
) -> Result<()> {
    pusher.fresh(place)?;
    // Write out dirty pages of the other tools first, so that they do not slow this one.
    nix::unistd::sync();
    let mut timed = |column: &mut Vec<Duration>| -> Result<()> {
        let start = Instant::now();
        pusher.push(source)?;
        column.push(start.elapsed());
        Ok(())
    };
    timed(&mut times.first)?;
    timed(&mut times.again)?;
    let changed = tree::change_one(source, round)?;
    timed(&mut times.changed)?;
    let arrived = std::fs::read(pusher.destination().join(&changed))?;
    if arrived == std::fs::read(source.join(&changed))? {
        return Ok(());
    }
    Err(format!("{}: {} did not arrive", pusher.name(), changed.display()).into())
}
