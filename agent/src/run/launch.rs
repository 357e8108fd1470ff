//! How a supervisor gets a life of its own, so that a restart of `agent serve` does not touch it.

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
    /// As a transient systemd unit: own cgroup, own session, ended with all that it started.
    Systemd {
        /// The agent binary.
        agent: PathBuf,
    },
    /// As a child of this process, in its own session but in the same cgroup.
    Direct {
        /// The agent binary.
        agent: PathBuf,
    },
}

impl Launcher {
    /// Chooses by whether systemd is the host's init (sd_booted(3)).
    pub fn detect(agent: PathBuf) -> Self {
        if Path::new("/run/systemd/system").is_dir() {
            Self::Systemd { agent }
        } else {
            Self::Direct { agent }
        }
    }

    /// What works less well than it should, as a sentence.
    pub fn degraded(&self) -> Option<&'static str> {
        match self {
            Self::Systemd { .. } => None,
            Self::Direct { .. } => Some("no systemd here: runs share the agent's cgroup and may end with it"),
        }
    }

    /// Starts the supervisor of a queued run; returns once it is on its way.
    ///
    /// # Errors
    /// When it cannot be started.
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
                // How it ended is in the run's directory; here it only must not stay a zombie.
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
        // Should the supervisor be killed, all that it started ends too. What a run that ends in order leaves running
        // has a scope of its own by then (see `left`).
        "KillMode=control-group",
        "TimeoutStopSec=10",
        // A child that the kernel killed is a result to write down, not a reason to stop the supervisor.
        "OOMPolicy=continue",
        // No core dump by itself, but what a run leaves running may want one: the hard limit cannot be raised again.
        "LimitCORE=0:infinity",
        // A count of out-of-memory kills of the run's own, where version 1 of control groups keeps it (see `memory`).
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
