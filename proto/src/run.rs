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

/// Whether the run is a plan: an apply under `--noop`, which shows what would change.
pub fn is_plan(run: &Run) -> bool {
    apply(run).is_some_and(|apply| apply.noop)
}

/// Whether the run was started to change the host with Puppet code: an apply, but not a plan.
pub fn is_change(run: &Run) -> bool {
    apply(run).is_some_and(|apply| !apply.noop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::{Command, StartRequest};

    #[test]
    fn neither_a_plan_nor_a_command_is_a_change() {
        let run = |what| Run {
            request: Some(StartRequest { what: Some(what), ..StartRequest::default() }),
            ..Run::default()
        };
        let apply = |noop| run(What::Apply(Apply { noop, ..Apply::default() }));
        let kinds = [apply(false), apply(true), run(What::Command(Command::default())), Run::default()];
        assert_eq!(kinds.each_ref().map(is_change), [true, false, false, false]);
        assert_eq!(kinds.each_ref().map(is_plan), [false, true, false, false]);
    }
}
