//! How long it takes to bring a Puppet tree to a host: Magpie beside what people use today.
//!
//! All competitors run side by side in one process over loopback, in rounds, each round with fresh destinations; the table
//! shows medians, so that a busy machine slows all of them alike. Prints a section of Markdown. The tree has 3,000 files and 20 MB: 2,700 small files of
//! text and 300 of 40 kB that do not compress.

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

/// Rounds; the median is shown.
const ROUNDS: usize = 5;

/// Any failure ends the benchmark.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Something that brings the tree to a destination: first time, again unchanged, and with one file changed.
trait Pusher {
    /// The row's name.
    fn name(&self) -> &'static str;
    /// Prepares a new, empty destination.
    fn fresh(&mut self, scratch: &Path) -> Result<()>;
    /// Brings `tree` to the destination.
    fn push(&mut self, tree: &Path) -> Result<()>;
    /// Where the tree is found afterwards.
    fn destination(&self) -> std::path::PathBuf;
    /// What each push so far was made of; Magpie alone tells.
    fn phases(&self) -> &[magpie::Phases] {
        &[]
    }
}

/// Times of one competitor, in the order of the columns.
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
            // If stderr is closed there is nobody to tell.
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

/// One round of one competitor.
fn measure(
    pusher: &mut dyn Pusher,
    times: &mut Times,
    place: &Path,
    source: &Path,
    round: usize,
) -> Result<()> {
    pusher.fresh(place)?;
    // What others have left in memory to be written is not this one's to pay for.
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
