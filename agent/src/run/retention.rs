//! Which finished runs go: a plan first, then its execution.

use std::{fs, path::PathBuf};

use super::{Error, RunDirectory, standing::Standing};
use crate::paths::Paths;

/// How many finished runs a host keeps.
pub const KEEP: usize = 50;

/// A finished run, as the plan sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its directory.
    pub path: PathBuf,
    /// When it was started, in milliseconds since the Unix epoch.
    pub started_unix_ms: i64,
}

/// The finished runs to remove so that the newest `keep` remain.
pub fn plan(mut finished: Vec<Finished>, keep: usize) -> Vec<PathBuf> {
    finished.sort_by(|a, b| (b.started_unix_ms, &b.path).cmp(&(a.started_unix_ms, &a.path)));
    finished.into_iter().skip(keep).map(|run| run.path).collect()
}

/// All runs that have ended.
///
/// # Errors
/// When the directory of runs cannot be read; a single unreadable run is left alone.
pub fn finished(paths: &Paths, boot_id: &str, now_unix_ms: i64) -> Result<Vec<Finished>, Error> {
    let ended = |directory: &RunDirectory| {
        let over = matches!(
            directory.standing(boot_id, now_unix_ms),
            Ok(Standing::Ended(_) | Standing::Interrupted(_))
        );
        over && !matches!(directory.supervisor(), Ok(super::standing::Supervisor::Alive))
    };
    let finished = RunDirectory::all(paths)?.into_iter().filter(ended).filter_map(|directory| {
        let started_unix_ms = directory.intent().ok()?.run?.started_unix_ms;
        Some(Finished { path: directory.path().to_owned(), started_unix_ms })
    });
    Ok(finished.collect())
}

/// Removes what [`plan`] named.
///
/// # Errors
/// At the first directory that cannot be removed.
pub fn execute(plan: &[PathBuf]) -> Result<(), Error> {
    for path in plan {
        fs::remove_dir_all(path).map_err(Error::file("cannot remove", path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_none_before_there_are_too_many() {
        let run = |n: i64| Finished { path: format!("r-{n}").into(), started_unix_ms: n };
        assert!(plan((0..3).map(run).collect(), 3).is_empty());
        assert_eq!(plan([2, 0, 3, 1].map(run).to_vec(), 2), [PathBuf::from("r-1"), "r-0".into()]);
    }
}
