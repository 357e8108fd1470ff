//! Thousands of processes a second that live for a moment: what of them is recorded, and at what cost.

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

/// Processes to be made each second.
pub(crate) const RATE: u64 = 4_000;

/// Shells that make them: one alone waits too long for each.
const PARENTS: u64 = 4;

/// Each parent is told this often how many to make.
const BEAT: Duration = Duration::from_millis(20);

/// Makes as many subshells, one after the other, as each line says; prints how many it has made.
const MAKE: &str = r#"made=0
while read -r n; do
    while [ $n -gt 0 ]; do (:); n=$((n - 1)); made=$((made + 1)); done
done
echo $made"#;

/// What was made and what was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Churn {
    /// Processes that ended.
    pub(crate) made: u64,
    /// In so many seconds.
    pub(crate) seconds: f64,
    /// Of these the record tells.
    pub(crate) recorded: u64,
    /// Events that the kernel could not deliver, as the record says; unknown without a source of exits.
    pub(crate) lost: Option<u64>,
    /// Share of one core that the recorder used meanwhile.
    pub(crate) share: f64,
    /// Share of one core that it used in as long a time before.
    pub(crate) quiet_share: f64,
}

/// Runs `recorder` while processes come and go for so many seconds.
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
    // The samples that tell of the last ones.
    thread::sleep(Duration::from_secs(2));
    seen(&Paths::new(running.end().path()).history(), &pids, &mut churn)?;
    Ok(churn)
}

/// The share of one core that the recorder uses while `work` is done.
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

/// Tells the parents what to make, beat by beat, until the time is over; returns what they say they have made.
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

/// Counts what the record says of children of `parents`.
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
