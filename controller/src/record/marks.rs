//! Starts and ends of runs, to be shown on the time line.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::{source::KnownRun, time::timestamp};

/// The start or end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunMark {
    /// Time of the start or end.
    pub at: Timestamp,
    /// Run id.
    pub run_id: String,
    /// `apply`, `plan` or `command`.
    pub what: String,
    /// User who started the run.
    pub user: String,
    /// Final state; absent for a start.
    pub state: Option<String>,
}

/// Queue of marks in order of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks(VecDeque<RunMark>);

impl Marks {
    /// The marks of these runs.
    pub(crate) fn of(runs: &[KnownRun]) -> Self {
        let mut marks: Vec<_> = runs.iter().flat_map(marks).collect();
        marks.sort_by_key(|mark| mark.at);
        Self(marks.into())
    }

    /// Removes and returns the marks up to a time.
    pub(crate) fn until(&mut self, at: Timestamp) -> impl Iterator<Item = RunMark> {
        let count = self.0.iter().take_while(|mark| mark.at <= at).count();
        self.0.drain(..count)
    }

    /// Drops the marks up to a time.
    pub(crate) fn skip_until(&mut self, at: Timestamp) {
        self.until(at).for_each(drop);
    }
}

fn marks(run: &KnownRun) -> impl Iterator<Item = RunMark> {
    let mark = |unix_ms, state| RunMark {
        at: timestamp(unix_ms),
        run_id: run.run_id.clone(),
        what: run.what.clone(),
        user: run.user.clone(),
        state,
    };
    let end = run.state.clone().map(|state| mark(run.finished_unix_ms, Some(state)));
    [mark(run.started_unix_ms, None)].into_iter().chain(end)
}
