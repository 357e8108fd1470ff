//! All recorders in turn, at each number of processes, idle and lightly busy.

use std::{fs, path::Path, thread, time::Duration};

use crate::{
    Plan, Result,
    measure::{Cost, Running},
    recorders::{self, Recorder, Store},
    seal,
    workload::Workload,
};

/// Processes that are lightly busy in the busy mix.
pub(crate) const BUSY: usize = 50;

/// The number of processes at which most goals are held to.
pub(crate) const HELD: usize = 2_000;

/// Seconds that peers are watched, if their period is not longer.
pub(crate) const PEER_SECONDS: u64 = 4;

/// Time for the new processes to fall asleep.
const SETTLE: Duration = Duration::from_secs(2);

/// Costs of all recorders on one workload.
pub(crate) struct Cell {
    /// Processes of the workload.
    pub(crate) processes: usize,
    /// Of these lightly busy.
    pub(crate) busy: usize,
    /// Processes of the whole machine.
    pub(crate) listed: usize,
    /// Ours first.
    pub(crate) rows: Vec<(&'static str, Outcome)>,
}

/// What became of one recorder.
pub(crate) enum Outcome {
    /// Its costs in each round.
    Measured(Vec<Cost>),
    /// Why it was not measured.
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
    // Goals are held to in the busy mix: Magpie's there are medians, and the peers' where most of the goals are.
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
    /// Takes one more round into account; a recorder that failed once is not trusted.
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
