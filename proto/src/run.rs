//! What both sides know of a run's state.

use crate::pb::RunState;

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
