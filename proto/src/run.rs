//! What both sides know of a run: its state, and what was requested.

use crate::pb::{Apply, Run, RunState, start_request::What};

/// Whether a run has ended. A state that this build does not know is not taken for an end.
pub fn is_over(state: RunState) -> bool {
    !matches!(state, RunState::Unspecified | RunState::Queued | RunState::Preparing | RunState::Running)
}

/// The name of a state, for people, JSON and metrics.
pub fn state_name(state: RunState) -> &'static str {
    match state {
        RunState::Unspecified => "unknown",
        RunState::Queued => "queued",
        RunState::Preparing => "preparing",
        RunState::Running => "running",
        RunState::Succeeded => "succeeded",
        RunState::Changed => "changed",
        RunState::Failed => "failed",
        RunState::Cancelled => "cancelled",
        RunState::Interrupted => "interrupted",
    }
}

/// What the run was started for; `None` if the message lacks it.
pub fn what(run: &Run) -> Option<&What> {
    run.request.as_ref()?.what.as_ref()
}

/// The apply that the run was started for; `None` if it is a command.
pub fn apply(run: &Run) -> Option<&Apply> {
    match what(run)? {
        What::Apply(apply) => Some(apply),
        What::Command(_) => None,
    }
}
