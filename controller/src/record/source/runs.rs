//! Runs of a record's host: listed by the host, or read from `runs.json` next to a fetched record.

use std::{fs, io, path::Path};

use proto::{
    pb::{Run, start_request::What},
    run::{is_over, state_name, what},
};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Name of the file with the runs.
pub(super) const FILE: &str = "runs.json";

const VERSION: u32 = 1;

/// The data of a run that a timeline shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownRun {
    /// Id of the run.
    pub run_id: String,
    /// `apply`, `plan` or `command`.
    pub what: String,
    /// User who started the run.
    pub user: String,
    /// Final state, such as `changed`; `None` while the run is in progress.
    pub state: Option<String>,
    /// Start, ms since the Unix epoch.
    pub started_unix_ms: i64,
    /// End, ms since the Unix epoch; 0 while the run is in progress.
    pub finished_unix_ms: i64,
}

impl From<&Run> for KnownRun {
    fn from(run: &Run) -> Self {
        let what = match what(run) {
            Some(What::Apply(apply)) if apply.noop => "plan",
            Some(What::Apply(_)) => "apply",
            Some(What::Command(_)) => "command",
            None => "",
        };
        let is_over = run.finished_unix_ms > 0 && is_over(run.state());
        Self {
            run_id: run.run_id.clone(),
            what: what.to_owned(),
            user: run.user.clone(),
            state: is_over.then(|| state_name(run.state()).to_owned()),
            started_unix_ms: run.started_unix_ms,
            finished_unix_ms: run.finished_unix_ms,
        }
    }
}

/// Contents of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    v: u32,
    /// Name of the record's host.
    pub(super) host: String,
    pub(super) runs: Vec<KnownRun>,
}

impl Known {
    pub(super) fn new(host: &str) -> Self {
        Self { v: VERSION, host: host.to_owned(), runs: Vec::new() }
    }

    /// Reads the file in a directory; `None` if missing.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::invalid(format!("cannot read {}: {error}", path.display()))),
        };
        let known: Self = serde_json::from_slice(&bytes).map_err(|error| {
            Error::invalid(format!("{} is not a valid list of runs: {error}", path.display()))
        })?;
        match known.v {
            VERSION => Ok(Some(known)),
            other => Err(Error::invalid(format!("{} has unknown version {other}", path.display()))
                .hint("a newer ctl wrote this file: use that version")),
        }
    }

    /// Adds runs, replacing known runs with the same id.
    pub(super) fn merge(&mut self, runs: Vec<KnownRun>) {
        self.runs.retain(|old| !runs.iter().any(|run| run.run_id == old.run_id));
        self.runs.extend(runs);
        self.runs.sort_by_key(|run| run.started_unix_ms);
    }

    /// Writes the file atomically.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let file = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer_pretty(&file, self)?;
        file.as_file().sync_all()?;
        file.persist(directory.join(FILE)).map(drop).map_err(|error| error.error)
    }
}
