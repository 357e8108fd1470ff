//! Measures all recorders in turn, with different numbers of processes, idle and lightly busy.

use std::{fs, path::Path, thread, time::Duration};

use crate::{
    Plan, Result,
    measure::{Cost, Running},
    recorders::{self, Recorder, Store},
    seal,
    workload::Workload,
};

/// Number of lightly busy processes in the busy mix.
pub(crate) const BUSY: usize = 50;

/// The number of processes for most goals.
pub(crate) const HELD: usize = 2_000;

/// Time to measure other recorders, in seconds, unless their period is longer.
pub(crate) const PEER_SECONDS: u64 = 4;

/// Time for new processes to become idle.
const SETTLE: Duration = Duration::from_secs(2);

/// Costs of all recorders on one workload.
pub(crate) struct Cell {
    /// Number of processes in the workload.
    pub(crate) processes: usize,
    /// Number of lightly busy ones among them.
    pub(crate) busy: usize,
    /// Number of processes on the whole machine.
    pub(crate) listed: usize,
    /// Magpie's recorders first.
    pub(crate) rows: Vec<(&'static str, Outcome)>,
}

/// Results of one recorder.
pub(crate) enum Outcome {
    /// Costs in each round.
    Measured(Vec<Cost>),
    /// Why the recorder was not measured.
    Skipped(String),
}

/// Measures everything.
pub(crate) fn measure(plan: &Plan, scratch: &Path) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for &processes in plan.sizes {
        for busy in [0, BUSY] {
            cells.push(cell(plan, processes, busy, scratch)?);
        }
    }
    Ok(cells)
}

fn cell(plan: &Plan, processes: usize, busy: usize, scratch: &Path) -> Result<Cell> {
    let _workload = Workload::start(processes, busy)?;
    thread::sleep(SETTLE);
    let listed = listed()?;
    let (ours, peers) = (recorders::ours(processes)?, recorders::peers());
    let mut rows: Vec<_> =
        ours.iter().chain(&peers).map(|recorder| (recorder.name, Outcome::Measured(Vec::new()))).collect();
    // Goals apply to the busy mix: there, Magpie's costs are medians, and the others' where most goals are.
    let held = busy > 0 && processes >= HELD;
    for round in 0..if held { plan.rounds } else { 1 } {
        for (recorder, (_, outcome)) in ours.iter().chain(&peers).zip(&mut rows) {
            let is_ours = matches!(recorder.store, Store::Magpie);
            if round > 0 && !is_ours && processes != HELD {
                continue;
            }
            let seconds = if is_ours { plan.seconds } else { plan.seconds.min(PEER_SECONDS) };
            outcome.add(one(recorder, seconds.max(recorder.period), scratch));
        }
    }
    Ok(Cell { processes, busy, listed, rows })
}

impl Outcome {
    /// Adds one more round; a recorder that failed once is not measured again.
    fn add(&mut self, round: Result<Cost>) {
        match (&mut *self, round) {
            (Self::Measured(costs), Ok(cost)) => costs.push(cost),
            (Self::Measured(_), Err(error)) => *self = Self::Skipped(error.to_string()),
            (Self::Skipped(_), _) => {}
        }
    }
}

/// One recorder, alone on the workload.
fn one(recorder: &Recorder, seconds: u64, scratch: &Path) -> Result<Cost> {
    if !recorder.is_installed() {
        return Err("not installed".into());
    }
    let running = Running::start(recorder, scratch)?;
    let mut cost = running.measure(seconds)?;
    if matches!(recorder.store, Store::Magpie) {
        let sealed = seal::share(running.end().path())?;
        cost.bytes = Some(sealed.bytes);
        cost.user_ms += sealed.cpu_ms;
        cost.threads.push(("sealing blocks, its share".to_owned(), sealed.cpu_ms));
    }
    Ok(cost)
}

fn listed() -> Result<usize> {
    let names = fs::read_dir("/proc")?.flatten().map(|entry| entry.file_name());
    Ok(names.filter(|name| name.to_string_lossy().parse::<u32>().is_ok()).count())
}
