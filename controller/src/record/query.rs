//! What is asked of a record: a window of time, which processes, and their order.

use jiff::Timestamp;
use record::Columns;

use super::selection::{Selection, Sort};

/// What to show.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Samples before are only used to compute rates.
    pub from: Option<Timestamp>,
    /// Samples after are ignored.
    pub until: Option<Timestamp>,
    /// Order within a sample.
    pub sort: Sort,
    /// Processes shown of each sample; all if absent.
    pub top: Option<usize>,
    /// Which processes.
    pub selection: Selection,
    /// Leave out what did nothing in the interval.
    pub busy_only: bool,
}

impl Query {
    /// The columns that who is shown, and in what order, depends on.
    pub fn needs(&self) -> Columns {
        // Of one process there is no order. A user is told by the name or by the id.
        let order = if self.selection.pids.len() == 1 { Columns::NONE } else { self.sort.needs() };
        let busy = if self.busy_only { BUSY_COLUMNS } else { Columns::NONE };
        order.with(busy).with(Columns::UID)
    }

    /// Whether a time is inside of the window.
    pub fn spans(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| at >= from) && self.until.is_none_or(|until| at <= until)
    }
}

/// What tells whether a process did anything.
const BUSY_COLUMNS: Columns = Columns::CPU
    .with(Columns::STATE)
    .with(Columns::WAIT)
    .with(Columns::MAJOR_FAULTS)
    .with(Columns::READ)
    .with(Columns::WRITTEN);
