//! A query of a record: time window, processes, and their order.

use jiff::Timestamp;
use record::Columns;

use super::selection::{Selection, Sort};

/// A query of a record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    /// Start of the window; earlier samples are only used to compute rates.
    pub from: Option<Timestamp>,
    /// End of the window; later samples are ignored.
    pub until: Option<Timestamp>,
    /// Order within a sample.
    pub sort: Sort,
    /// Maximum number of processes per sample; all if absent.
    pub top: Option<usize>,
    /// Filter for processes.
    pub selection: Selection,
    /// Skip processes that were idle in the interval.
    pub busy_only: bool,
}

impl Query {
    /// The columns of the record that filter and order need.
    pub(crate) fn needs(&self) -> Columns {
        // A single process needs no order. A user is matched by name or id.
        let order = if self.selection.pids.len() == 1 { Columns::NONE } else { self.sort.needs() };
        let busy = if self.busy_only { BUSY_COLUMNS } else { Columns::NONE };
        order.with(busy).with(Columns::UID)
    }

    /// Whether something that happened after one time and no later than another may have happened in the window.
    pub(crate) fn meets(&self, after: Timestamp, at: Timestamp) -> bool {
        self.from.is_none_or(|from| at >= from) && self.until.is_none_or(|until| after < until || at <= until)
    }

    /// Whether a time is inside the window.
    pub(crate) fn spans(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| at >= from) && self.until.is_none_or(|until| at <= until)
    }
}

/// The columns that show whether a process was busy.
const BUSY_COLUMNS: Columns =
    Columns::CPU.with(Columns::STATE).with(Columns::WAIT).with(Columns::MAJOR_FAULTS).with(Columns::IO);
