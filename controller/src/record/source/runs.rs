//! Runs beside a record: what is asked of a host, and `runs.json` in a directory that a record was fetched to.

use std::{fs, io, path::Path};

use proto::pb::{Run, RunState, start_request::What};
use serde::{Deserialize, Serialize};

use crate::{client::runs::is_over, error::Error, error::Result};

/// Name of the file.
pub(super) const FILE: &str = "runs.json";

const VERSION: u32 = 1;

/// A run, as far as a time line shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownRun {
    /// Its id.
    pub run_id: String,
    /// `apply`, `plan` or `command`.
    pub what: String,
    /// Who started it.
    pub user: String,
    /// How it ended; absent while it is under way.
    pub state: Option<String>,
    /// When it began.
    pub started_unix_ms: i64,
    /// When it ended; 0 while it is under way.
    pub finished_unix_ms: i64,
}

impl From<&Run> for KnownRun {
    fn from(run: &Run) -> Self {
        let what = match run.request.as_ref().and_then(|request| request.what.as_ref()) {
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
            state: is_over.then(|| state_name(run.state())),
            started_unix_ms: run.started_unix_ms,
            finished_unix_ms: run.finished_unix_ms,
        }
    }
}

/// `RUN_STATE_CHANGED` is `changed`.
fn state_name(state: RunState) -> String {
    state.as_str_name().trim_start_matches("RUN_STATE_").to_lowercase()
}

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    v: u32,
    /// Whose record it lies beside.
    pub(super) host: String,
    pub(super) runs: Vec<KnownRun>,
}

impl Known {
    pub(super) fn new(host: &str) -> Self {
        Self { v: VERSION, host: host.to_owned(), runs: Vec::new() }
    }

    /// Reads the file of a directory; `None` if there is none.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::invalid(format!("cannot read {}: {error}", path.display()))),
        };
        let known: Self = serde_json::from_slice(&bytes)
            .map_err(|error| Error::invalid(format!("{} is not what ctl wrote: {error}", path.display())))?;
        match known.v {
            VERSION => Ok(Some(known)),
            other => Err(Error::invalid(format!("{} is of version {other}", path.display()))
                .hint("a newer ctl wrote it: use that one")),
        }
    }

    /// Takes in more runs; what is known of one already is replaced.
    pub(super) fn merge(&mut self, runs: Vec<KnownRun>) {
        self.runs.retain(|old| !runs.iter().any(|run| run.run_id == old.run_id));
        self.runs.extend(runs);
        self.runs.sort_by_key(|run| run.started_unix_ms);
    }

    /// Writes the file, whole or not at all.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let file = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer_pretty(&file, self)?;
        file.as_file().sync_all()?;
        file.persist(directory.join(FILE)).map(drop).map_err(|error| error.error)
    }
}
