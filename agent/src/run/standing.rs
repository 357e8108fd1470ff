//! The state machine of a run, as a pure function of its files and its supervisor.

use prost::Message;
use proto::pb;

use super::is_same_boot;

/// What was requested, by which user, when and in which boot.
#[derive(Clone, PartialEq, Message)]
pub struct Intent {
    /// The run at its start: id, user, start and request.
    #[prost(message, optional, tag = "1")]
    pub run: Option<pb::Run>,
    /// The boot at that time (see `run::boot_id`).
    #[prost(string, tag = "2")]
    pub boot_id: String,
}

/// After this time without a supervisor, a queued run is given up, in milliseconds.
///
/// Long enough for systemd to start the unit only after the host has booted.
pub const QUEUE_LIMIT_MS: i64 = 120_000;

/// The state of a run's supervisor, from the run's `lock` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supervisor {
    /// There is no lock file: the supervisor has not started.
    NotStarted,
    /// The lock is held.
    Alive,
    /// The lock file exists, but the lock is not held.
    Gone,
}

/// The state of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// Requested; the supervisor has not started yet.
    Queued,
    /// The supervisor is alive.
    Active,
    /// Ended with a result.
    Ended(Box<pb::Run>),
    /// Ended without a result, for this reason.
    Interrupted(&'static str),
}

/// Derives the state of a run; `now_unix_ms` matters only for runs that never started.
pub fn derive(
    intent: &Intent,
    result: Option<pb::Run>,
    supervisor: Supervisor,
    boot_id: &str,
    now_unix_ms: i64,
) -> Standing {
    if let Some(result) = result {
        return Standing::Ended(Box::new(result));
    }
    if supervisor == Supervisor::Alive {
        return Standing::Active;
    }
    if !is_same_boot(&intent.boot_id, boot_id) {
        return Standing::Interrupted("the host rebooted before the run had ended");
    }
    if supervisor == Supervisor::Gone {
        return Standing::Interrupted("the run's supervisor was killed before the run had ended");
    }
    let asked = intent.run.as_ref().map_or(0, |run| run.started_unix_ms);
    if now_unix_ms.saturating_sub(asked) > QUEUE_LIMIT_MS {
        return Standing::Interrupted("the run's supervisor never started");
    }
    Standing::Queued
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent() -> Intent {
        Intent { boot_id: "this".into(), run: Some(pb::Run { started_unix_ms: 1_000, ..pb::Run::default() }) }
    }

    #[test]
    fn a_result_is_the_last_word() {
        let result = pb::Run { run_id: "r".into(), ..pb::Run::default() };
        for supervisor in [Supervisor::NotStarted, Supervisor::Alive, Supervisor::Gone] {
            for boot in ["this", "other"] {
                let standing = derive(&intent(), Some(result.clone()), supervisor, boot, i64::MAX);
                assert_eq!(standing, Standing::Ended(Box::new(result.clone())));
            }
        }
    }

    #[test]
    fn without_a_result_the_lock_decides() {
        let at = |supervisor, boot| derive(&intent(), None, supervisor, boot, 1_000 + QUEUE_LIMIT_MS);
        assert_eq!(at(Supervisor::Alive, "this"), Standing::Active);
        assert_eq!(at(Supervisor::NotStarted, "this"), Standing::Queued);
        let Standing::Interrupted(why) = at(Supervisor::Gone, "this") else { panic!("not interrupted") };
        assert!(why.contains("killed"), "{why}");
    }

    #[test]
    fn a_reboot_is_told_apart_from_a_crash() {
        for supervisor in [Supervisor::NotStarted, Supervisor::Gone] {
            let Standing::Interrupted(why) = derive(&intent(), None, supervisor, "other", 1_000) else {
                panic!("not interrupted")
            };
            assert!(why.contains("rebooted"), "{why}");
        }
    }

    #[test]
    fn a_run_without_a_supervisor_does_not_stay_queued_forever() {
        let late = derive(&intent(), None, Supervisor::NotStarted, "this", 1_001 + QUEUE_LIMIT_MS);
        assert_eq!(late, Standing::Interrupted("the run's supervisor never started"));
    }
}
