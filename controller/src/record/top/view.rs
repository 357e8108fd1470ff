//! View settings: order, tree, filter and selection.

use record::{Identity, Process};

use crate::record::selection::Sort;

/// View settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Order of the processes; in a tree, among siblings.
    pub sort: Sort,
    /// Show a tree, children below their parents.
    pub tree: bool,
    /// Only processes with this text in command, user or control group, or with this pid; all if empty.
    pub filter: String,
    /// The selected process.
    pub selected: Option<Identity>,
}

impl View {
    /// Whether a process matches the filter.
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
