//! Thousands of short-lived processes per second: how many are recorded, and at what cost.

use std::{
    collections::HashSet,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use agent::paths::Paths;
use record::directory::{Filter, Reader};
use record::{Block, Sample};

use crate::{Result, measure::Running, recorders::Recorder};

/// Number of processes to start per second.
pub(crate) const RATE: u64 = 4_000;

/// Number of shells that start them: a single shell waits too long for each process.
const PARENTS: u64 = 4;

/// How often each shell gets the number of processes to start.
const BEAT: Duration = Duration::from_millis(20);

/// For each input line, starts that many subshells, one after another; prints the total.
const MAKE: &str = r#"made=0
while read -r n; do
    while [ $n -gt 0 ]; do (:); n=$((n - 1)); made=$((made + 1)); done
done
echo $made"#;

/// Processes started, and processes recorded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Churn {
    /// Number of processes that ended.
    pub(crate) made: u64,
    /// Duration, in seconds.
    pub(crate) seconds: f64,
    /// Number of them in the record.
    pub(crate) recorded: u64,
    /// Lost exit events according to the record; unknown without a source of exits.
    pub(crate) lost: Option<u64>,
    /// The recorder's CPU usage meanwhile, as a share of one core.
    pub(crate) share: f64,
    /// The recorder's CPU usage in an equally long time before, as a share of one core.
    pub(crate) quiet_share: f64,
}

/// Runs `recorder` while processes start and end for this many seconds.
pub(crate) fn churn(recorder: &Recorder, seconds: u64, scratch: &Path) -> Result<Churn> {
    let running = Running::start(recorder, scratch)?;
    let mut churn = Churn {
        quiet_share: share(&running, || {
            thread::sleep(Duration::from_secs(seconds));
            Ok(())
        })?,
        ..Churn::default()
    };
    let mut parents: Vec<Child> = (0..PARENTS).map(|_| parent()).collect::<Result<_>>()?;
    let pids: HashSet<u32> = parents.iter().map(Child::id).collect();
    churn.share = share(&running, || {
        let begun = Instant::now();
        let made = drive(&mut parents, seconds)?;
        (churn.made, churn.seconds) = (made, begun.elapsed().as_secs_f64());
        Ok(())
    })?;
    // Wait for the samples with the last exits.
    thread::sleep(Duration::from_secs(2));
    seen(&Paths::new(running.end().path()).history(), &pids, &mut churn)?;
    Ok(churn)
}

/// The recorder's CPU usage during `work`, as a share of one core.
fn share(running: &Running, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let (begun, before) = (Instant::now(), running.cpu()?);
    work()?;
    Ok(running.cpu()?.since(before).total_us() as f64 / begun.elapsed().as_micros() as f64)
}

fn parent() -> Result<Child> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "sh", "-c", MAKE]);
    Ok(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
}

/// Sends the shells the number of processes to start at each beat until the time is over; returns their totals.
fn drive(parents: &mut [Child], seconds: u64) -> Result<u64> {
    let each = RATE * BEAT.as_millis() as u64 / 1000 / PARENTS;
    let beats = seconds * 1000 / BEAT.as_millis() as u64;
    let begun = Instant::now();
    for beat in 0..beats as u32 {
        for parent in parents.iter_mut() {
            writeln!(parent.stdin.as_mut().ok_or("no pipe to a parent")?, "{each}")?;
        }
        thread::sleep((begun + BEAT * (beat + 1)).saturating_duration_since(Instant::now()));
    }
    let mut made = 0;
    for parent in parents {
        drop(parent.stdin.take());
        let stdout = parent.stdout.take().ok_or("no pipe from a parent")?;
        made += std::io::read_to_string(stdout)?.trim().parse::<u64>()?;
        parent.wait()?;
    }
    Ok(made)
}

/// Counts exits of children of `parents` in the record.
fn seen(history: &Path, parents: &HashSet<u32>, churn: &mut Churn) -> Result<()> {
    for stored in Reader::new(history).blocks(Filter::default())? {
        let data = stored.data;
        if data.is_empty() {
            continue;
        }
        for sample in Block::parse(&data)?.samples()? {
            let sample: Sample = sample?;
            let single = sample.exits.iter().filter(|exit| parents.contains(&exit.parent)).count() as u64;
            let groups = sample.exit_groups.iter().filter(|group| parents.contains(&group.parent));
            churn.recorded += single + groups.map(|group| group.count).sum::<u64>();
            churn.lost = sample.exits_lost.or(churn.lost);
        }
    }
    Ok(())
}
