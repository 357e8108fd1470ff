//! Starts supervisors in units of their own, so that a restart of `agent serve` does not affect them.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use super::Error;
use crate::paths::Paths;

/// How supervisors are started on this host.
#[derive(Clone, Debug)]
pub enum Launcher {
    /// As a transient systemd unit: own cgroup, own session, killed together with its children.
    Systemd {
        /// Path of the agent binary.
        agent: PathBuf,
    },
    /// As a child of this process, in its own session but in the same cgroup.
    Direct {
        /// Path of the agent binary.
        agent: PathBuf,
    },
}

impl Launcher {
    /// Uses systemd if it is the host's init (sd_booted(3)).
    pub fn detect(agent: PathBuf) -> Self {
        if Path::new("/run/systemd/system").is_dir() {
            Self::Systemd { agent }
        } else {
            Self::Direct { agent }
        }
    }

    /// A warning, if runs are not fully isolated.
    pub fn degraded(&self) -> Option<&'static str> {
        match self {
            Self::Systemd { .. } => None,
            Self::Direct { .. } => {
                Some("this host has no systemd: runs share the agent's cgroup and may die with it")
            }
        }
    }

    /// Starts the supervisor of a queued run; returns before the supervisor is ready.
    ///
    /// # Errors
    /// If the supervisor cannot be started.
    pub fn launch(&self, paths: &Paths, id: &str) -> Result<(), Error> {
        let failed = |why: String| Error::Launch { id: id.to_owned(), why };
        match self {
            Self::Systemd { agent } => {
                let output = Command::new("systemd-run")
                    .args(unit(id, env::var_os("MAGPIE_PUPPET")))
                    .args(supervisor(agent, paths, id))
                    .stdin(Stdio::null())
                    .output()
                    .map_err(|error| failed(format!("systemd-run: {error}")))?;
                if output.status.success() {
                    return Ok(());
                }
                Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
            }
            Self::Direct { agent } => {
                let [program, arguments @ ..] = &supervisor(agent, paths, id)[..] else {
                    return Err(failed("no program".into()));
                };
                let mut child = Command::new(program)
                    .args(arguments)
                    .stdin(Stdio::null())
                    .spawn()
                    .map_err(|error| failed(error.to_string()))?;
                // The run's directory records how it ended; only avoid a zombie here.
                thread::spawn(move || child.wait());
                Ok(())
            }
        }
    }
}

fn supervisor(agent: &Path, paths: &Paths, id: &str) -> Vec<OsString> {
    vec![agent.into(), "run".into(), id.into(), "--root".into(), paths.root().into()]
}

/// The unit of one run (systemd-run(1), systemd.service(5), systemd.kill(5)).
fn unit(id: &str, puppet: Option<OsString>) -> Vec<OsString> {
    let name = format!("--unit=magpie-run-{id}");
    let mut arguments: Vec<OsString> =
        vec!["--no-block".into(), "--collect".into(), "--quiet".into(), name.into()];
    let properties = [
        // If the supervisor is killed, all its processes are killed as well. Processes that outlive an orderly end
        // have moved to a scope of their own by then (see `left`).
        "KillMode=control-group",
        "TimeoutStopSec=10",
        // If the kernel kills a child, the supervisor must record that as a result and therefore survive.
        "OOMPolicy=continue",
        // No core dumps by default, but a surviving daemon may enable them: a hard limit cannot be raised again.
        "LimitCORE=0:infinity",
        // Gives the run its own count of out-of-memory kills with control groups version 1 (see `memory`).
        "MemoryAccounting=yes",
    ];
    for property in properties {
        arguments.extend(["-p".into(), property.into()]);
    }
    if let Some(puppet) = puppet {
        let mut variable = OsString::from("--setenv=MAGPIE_PUPPET=");
        variable.push(puppet);
        arguments.push(variable);
    }
    arguments.push("--".into());
    arguments
}
