//! How the processes of one sample are shown.

use record::{Identity, Process};

use crate::record::selection::Sort;

/// What is shown, and in which order.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Order of the processes; in a tree, of those with the same parent.
    pub sort: Sort,
    /// Children below their parents.
    pub tree: bool,
    /// Only processes with this in their command, user or control group, or with this pid; all if empty.
    pub filter: String,
    /// The process that keys act on.
    pub selected: Option<Identity>,
}

impl View {
    /// Whether a process passes the filter.
    pub(super) fn admits(&self, process: &Process) -> bool {
        let wanted = self.filter.to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&wanted);
        let texts = [&process.command, &process.user, &process.cgroup];
        wanted.is_empty()
            || has(&process.comm)
            || texts.into_iter().flatten().any(|text| has(text))
            || process.identity.pid.to_string() == wanted
    }
}
