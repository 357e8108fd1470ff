//! Runs: one apply or command on this host, from the request to the result.
//!
//! ```text
//! Start ─▶ queued ─▶ preparing ─▶ running ─▶ succeeded | changed | failed
//!             │          │           ├─▶ cancelled      (Cancel: TERM, grace, then KILL, whole process tree)
//!             └──────────┴───────────┴─▶ interrupted    (agent or host died; never re-run by itself)
//! ```
//!
//! A run *is* its directory. `serve` creates it by one rename, with the request inside: that is `queued`. A separate
//! process, [`supervise`], takes the run's lock, owns Puppet, writes events to the spool, and ends the run by writing
//! the result, again by one rename. No state is stored: [`standing::derive`] computes it from the files and the lock,
//! so no crash can leave a wrong state behind.
//!
//! - [`directory`]: the files of a run and their formats,
//! - [`spool`]: the event file,
//! - [`standing`]: the state machine as a pure function,
//! - [`follow`]: replays events and follows new ones,
//! - [`launch`]: starts supervisors in their own cgroups,
//! - [`supervisor`]: executes a run,
//! - [`process`]: child processes, their output and their exit,
//! - [`left`]: processes that outlive the run,
//! - [`memory`]: whether a run ran out of memory,
//! - [`puppet`], [`install`], [`log`], [`report`], [`origin`]: everything that is specific to Puppet,
//! - [`retention`]: which finished runs to remove.

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

/// Errors of a run's own files and processes; a run that fails is not an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("{action} {path}: {source}", path = path.display())]
    File {
        /// For example "cannot write".
        action: &'static str,
        /// Path of the file or directory.
        path: PathBuf,
        /// The error of the operation.
        source: io::Error,
    },
    /// A file's content is malformed.
    #[error("{path} is not a valid {what} of a run", path = path.display())]
    Corrupt {
        /// Path of the file.
        path: PathBuf,
        /// The expected content, such as "request".
        what: &'static str,
    },
    /// A supervisor was started for a run that is not queued.
    #[error("run {id} cannot start: {why}")]
    NotQueued {
        /// Id of the run.
        id: String,
        /// The reason.
        why: &'static str,
    },
    /// The supervisor process could not be started.
    #[error("cannot start the supervisor of run {id}: {why}")]
    Launch {
        /// Id of the run.
        id: String,
        /// The reason.
        why: String,
    },
    /// A system call of the supervisor failed.
    #[error("{action}: {source}")]
    System {
        /// For example "cannot watch the run directory".
        action: &'static str,
        /// The error of the call.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err` after file operations.
    fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }

    /// For `map_err` after other system calls.
    fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}

/// Whether `id` is a valid run id: 1 to 64 characters of `[a-z0-9-]`, not starting with `-`.
///
/// The id becomes a directory name, a unit name and an argument, so nothing else is allowed.
pub fn is_run_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && !id.starts_with('-')
        && id.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Wall time in milliseconds since the Unix epoch.
pub fn unix_ms(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Identifies this boot of the host: the kernel's id of its own boot (proc_sys_kernel(5), `random/boot_id`) and the
/// start time of the first process, in clock ticks. In a container, the kernel's id is the machine's, so it is the
/// same for all boots of the container.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn boot_id() -> Result<String, Error> {
    let read = |path: &str| {
        let path = Path::new(path);
        std::fs::read_to_string(path).map_err(Error::file("cannot read", path))
    };
    let (kernel, first) = (read("/proc/sys/kernel/random/boot_id")?, read("/proc/1/stat")?);
    // The twenty-second field (proc_pid_stat(5)); the second, in parentheses, may contain anything.
    let start = first.rsplit_once(')').and_then(|(_, fields)| fields.split_ascii_whitespace().nth(19));
    Ok(format!("{}/{}", kernel.trim(), start.unwrap_or_default()))
}

/// Whether both ids name the same boot. Older ids contain only the kernel's part.
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
