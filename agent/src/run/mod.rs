//! Runs: one apply or command on this host, from the moment it is asked for to its result.
//!
//! ```text
//! Start ─▶ queued ─▶ preparing ─▶ running ─▶ succeeded | changed | failed
//!             │          │           ├─▶ cancelled      (Cancel: TERM, grace, then KILL, whole process tree)
//!             └──────────┴───────────┴─▶ interrupted    (agent or host died; never re-run by itself)
//! ```
//!
//! A run *is* its directory. `serve` makes it by one rename, with the request inside: that is `queued`. A process
//! of its own, [`supervise`], takes the run's lock, owns Puppet, writes what happens to the spool, and ends the
//! run by writing the result, again by one rename. Nobody stores a state: [`standing::derive`] reads it from what is
//! on disk and who holds the lock, so no crash can leave a state that is not true.
//!
//! - [`directory`]: the files of a run and their formats,
//! - [`spool`]: the event file,
//! - [`standing`]: the state machine as a pure function,
//! - [`follow`]: replay, then live,
//! - [`launch`]: how a supervisor gets its own cgroup, - [`supervisor`]: what it does,
//! - [`process`]: children, their output and their end, - [`left`]: those that go on after it,
//! - [`memory`]: whether a run was short of memory,
//! - [`puppet`], [`install`], [`log`], [`report`], [`origin`]: all that Magpie knows of Puppet,
//! - [`retention`]: which finished runs go.

pub mod directory;
pub mod follow;
pub mod install;
pub mod launch;
pub mod left;
pub mod log;
pub mod memory;
pub mod origin;
pub mod process;
pub mod puppet;
pub mod report;
pub mod retention;
pub mod spool;
pub mod standing;
pub mod supervisor;

use std::{
    io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

pub use self::{directory::RunDirectory, launch::Launcher, supervisor::supervise};

/// What can go wrong with a run's own files and processes; a run that fails is not an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be used.
    #[error("{action} {path}: {source}", path = path.display())]
    File {
        /// Such as "cannot write".
        action: &'static str,
        /// Which one.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file of ours holds something that is not ours.
    #[error("{path} is not readable as a run's {what}", path = path.display())]
    Corrupt {
        /// Which one.
        path: PathBuf,
        /// What it should have been.
        what: &'static str,
    },
    /// A supervisor was asked to take up a run that has already been given up.
    #[error("run {id} cannot start: {why}")]
    NotQueued {
        /// The run.
        id: String,
        /// A sentence.
        why: &'static str,
    },
    /// The supervisor process could not be started.
    #[error("cannot start the supervisor of run {id}: {why}")]
    Launch {
        /// The run.
        id: String,
        /// A sentence.
        why: String,
    },
    /// The system refused something that the supervisor needs.
    #[error("{action}: {source}")]
    System {
        /// Such as "cannot watch the run directory".
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err` on file operations.
    fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }

    /// For `map_err` on everything else.
    fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}

/// Is this a run id: 1 to 64 characters of `[a-z0-9-]`, not starting with `-`?
///
/// It becomes a directory, a unit name and an argument, so nothing else may pass.
pub fn is_run_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && !id.starts_with('-')
        && id.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Wall time in milliseconds since the Unix epoch.
pub fn unix_ms(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Names this boot of the host: the kernel's id of its own boot (proc_sys_kernel(5), `random/boot_id`) and when the first
/// process started, in clock ticks. In a container the kernel's id is the machine's, and the same over all its boots.
///
/// # Errors
/// When `/proc` is not there.
pub fn boot_id() -> Result<String, Error> {
    let read = |path: &str| {
        let path = Path::new(path);
        std::fs::read_to_string(path).map_err(Error::file("cannot read", path))
    };
    let (kernel, first) = (read("/proc/sys/kernel/random/boot_id")?, read("/proc/1/stat")?);
    // The twenty-second field (proc_pid_stat(5)); the second, in brackets, may hold anything.
    let start = first.rsplit_once(')').and_then(|(_, fields)| fields.split_ascii_whitespace().nth(19));
    Ok(format!("{}/{}", kernel.trim(), start.unwrap_or_default()))
}

/// Is it the same boot? Older ids have the kernel's part alone.
fn is_same_boot(one: &str, other: &str) -> bool {
    let kernel = |id: &str| id.split('/').next().unwrap_or_default().to_owned();
    one == other || (kernel(one) == kernel(other) && !(one.contains('/') && other.contains('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_the_kernels_and_the_first_processs() {
        let id = boot_id().unwrap();
        let (kernel, start) = id.split_once('/').unwrap();
        assert!(kernel.len() == 36 && start.parse::<u64>().is_ok(), "{id}");
        assert!(is_same_boot("k/1", "k/1") && is_same_boot("k", "k/1") && is_same_boot("k", "k"));
        assert!(!is_same_boot("k/1", "k/2") && !is_same_boot("k", "l/1") && !is_same_boot("k/1", "l/1"));
    }

    #[test]
    fn a_run_id_is_safe_as_a_path_a_unit_and_an_argument() {
        for good in ["a", "r-20260101-abc", &"x".repeat(64)] {
            assert!(is_run_id(good), "{good}");
        }
        for bad in ["", "-rf", "..", "a/b", "A", "a b", ".apply", &"x".repeat(65)] {
            assert!(!is_run_id(bad), "{bad}");
        }
    }
}
