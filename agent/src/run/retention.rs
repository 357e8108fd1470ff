//! Plans which finished runs to remove, and removes them.

use proto::run::is_change;

use super::{Error, RunDirectory, standing::Standing};
use crate::paths::Paths;

/// How many finished runs a host keeps. It always keeps the newest run and the last apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Maximum number of runs.
    pub runs: usize,
    /// Maximum disk space of all runs, in bytes.
    pub bytes: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { runs: 50, bytes: 512 << 20 }
    }
}

/// A finished run, as input of the plan.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Directory of the run.
    pub directory: RunDirectory,
    /// Start of the run, in milliseconds since the Unix epoch.
    pub started_unix_ms: i64,
    /// Disk space of the run, in bytes.
    pub bytes: u64,
    /// Whether the run is an apply; a plan (`--noop`) is not.
    pub is_apply: bool,
}

/// The finished runs to remove, oldest last, so that the rest fits the policy.
pub fn plan(mut finished: Vec<Finished>, policy: Policy) -> Vec<RunDirectory> {
    finished.sort_by(|a, b| {
        (b.started_unix_ms, b.directory.path()).cmp(&(a.started_unix_ms, a.directory.path()))
    });
    let within = finished.iter().scan(0_u64, |total, run| {
        *total += run.bytes;
        Some(*total)
    });
    let kept = within.take(policy.runs).take_while(|&total| total <= policy.bytes).count().max(1);
    // The host's status shows it, however many plans and commands have come after it.
    let last_apply = finished.iter().position(|run| run.is_apply);
    let surplus = finished.into_iter().enumerate().skip(kept);
    surplus.filter(|(at, _)| Some(*at) != last_apply).map(|(_, run)| run.directory).collect()
}

/// All runs that have ended.
///
/// # Errors
/// If the directory of runs cannot be read; a single unreadable run is skipped.
pub fn finished(paths: &Paths, boot_id: &str, now_unix_ms: i64) -> Result<Vec<Finished>, Error> {
    let ended = |directory: &RunDirectory| {
        let over = matches!(
            directory.standing(boot_id, now_unix_ms),
            Ok(Standing::Ended(_) | Standing::Interrupted(_))
        );
        over && !matches!(directory.supervisor(), Ok(super::standing::Supervisor::Alive))
    };
    let finished = RunDirectory::all(paths)?.into_iter().filter(ended).filter_map(|directory| {
        let run = directory.intent().ok()?.run?;
        let (started_unix_ms, is_apply) = (run.started_unix_ms, is_change(&run));
        Some(Finished { started_unix_ms, bytes: directory.size(), is_apply, directory })
    });
    Ok(finished.collect())
}

/// Removes the runs that [`plan`] returned.
///
/// # Errors
/// For the first directory that cannot be removed; later ones are kept.
pub fn execute(plan: Vec<RunDirectory>) -> Result<(), Error> {
    plan.into_iter().try_for_each(RunDirectory::remove)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proto::pb;

    use super::*;
    use crate::run::standing::Intent;

    /// Creates finished runs, named after their start, each with the given number of bytes of events.
    fn runs(paths: &Paths, runs: &[(i64, usize)]) -> Vec<Finished> {
        for &(started_unix_ms, bytes) in runs {
            let id = format!("r-{started_unix_ms}");
            let run = pb::Run { run_id: id.clone(), started_unix_ms, ..pb::Run::default() };
            let intent = Intent { run: Some(run.clone()), boot_id: "boot".into() };
            let directory = RunDirectory::create(paths, &id, &intent).unwrap();
            fs::write(directory.events(), vec![1; bytes]).unwrap();
            directory.write_result(&run).unwrap();
        }
        finished(paths, "boot", 0).unwrap()
    }

    fn names(plan: &[RunDirectory]) -> Vec<&str> {
        plan.iter().map(|directory| directory.path().file_name().unwrap().to_str().unwrap()).collect()
    }

    #[test]
    fn the_oldest_go_first_and_none_before_there_are_too_many() {
        let root = tempfile::tempdir().unwrap();
        let all = runs(&Paths::new(root.path()), &[(2, 0), (0, 0), (3, 0), (1, 0)]);
        let at_most = |runs| plan(all.clone(), Policy { runs, ..Policy::default() });
        assert!(at_most(4).is_empty());
        assert_eq!(names(&at_most(2)), ["r-1", "r-0"]);
    }

    #[test]
    fn the_last_apply_stays_however_many_runs_came_after_it() {
        let root = tempfile::tempdir().unwrap();
        let mut all = runs(&Paths::new(root.path()), &[(0, 0), (1, 0), (2, 0), (3, 0)]);
        for run in &mut all {
            run.is_apply = run.started_unix_ms < 2;
        }
        assert_eq!(names(&plan(all, Policy { runs: 1, ..Policy::default() })), ["r-2", "r-0"]);
    }

    #[test]
    fn runs_that_wrote_much_go_sooner_but_never_the_newest() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        let all = runs(&paths, &[(0, 0), (1, 2 << 20), (2, 0), (3, 2 << 20)]);
        let within = |bytes| plan(all.clone(), Policy { bytes, ..Policy::default() });
        assert!(within(5 << 20).is_empty());
        assert_eq!(names(&within(3 << 20)), ["r-1", "r-0"]);
        assert_eq!(names(&within(1)), ["r-2", "r-1", "r-0"]);
        execute(within(1)).unwrap();
        assert_eq!(fs::read_dir(paths.runs()).unwrap().count(), 1);
    }
}
