//! A step is a separate process for work in namespaces, `ctl __local <step>`. This module lists the steps and starts
//! them; their code is elsewhere (see `reexec`).

use std::{
    ffi::OsStr,
    fs::File,
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, Stdio},
};

use super::channel::Channel;
use crate::{error::Result, provider::local::failure::Doing};

/// The hidden first argument.
pub(crate) const MARK: &str = "__local";

/// The running program by its open file: root inside may not be able to traverse its path, and the file at that path
/// may have been replaced.
pub(crate) const THIS_PROGRAM: &str = "/proc/self/exe";

/// The task of such a process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Holds a cloud's namespaces.
    Hold,
    /// Runs a host over all its boots.
    Supervise,
    /// Boots a host once and keeps its console.
    Keep,
    /// Becomes a host's init.
    Init,
    /// Connects to a host.
    Dial,
    /// Unpacks a tar file, owned by ids inside.
    Unpack,
    /// Removes a tree owned by ids inside.
    Remove,
    /// Copies a disk, whose files are owned by ids inside.
    Copy,
    /// Runs a program of an image.
    Run,
    /// Second half of `Run`, in its own process namespace.
    RunInside,
}

impl Step {
    const ALL: [(&str, Self); 10] = [
        ("hold", Self::Hold),
        ("supervise", Self::Supervise),
        ("keep", Self::Keep),
        ("init", Self::Init),
        ("dial", Self::Dial),
        ("unpack", Self::Unpack),
        ("remove", Self::Remove),
        ("copy", Self::Copy),
        ("run", Self::Run),
        ("run-inside", Self::RunInside),
    ];

    fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }

    /// The step of this name.
    pub(crate) fn called(name: &OsStr) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| name == *known).map(|(_, step)| *step)
    }
}

/// How to start a step. Its only open files are its channel, `stdout` and `log`.
pub(crate) struct Start<'a> {
    pub(crate) ctl: &'a Path,
    pub(crate) step: Step,
    /// Only shown by ps(1).
    pub(crate) label: &'a str,
    pub(crate) stdout: Stdio,
    pub(crate) log: Stdio,
}

impl<'a> Start<'a> {
    /// A step without output.
    pub(crate) fn new(ctl: &'a Path, step: Step, label: &'a str) -> Self {
        Self { ctl, step, label, stdout: Stdio::null(), log: Stdio::null() }
    }

    /// Sends standard error to `log`.
    pub(crate) fn log(mut self, log: File) -> Self {
        self.log = log.into();
        self
    }

    /// Starts the step in `directory`, with its end of the channel as standard input.
    pub(crate) fn spawn(self, directory: &Path) -> Result<(Channel, Child)> {
        let (ours, theirs) = Channel::pair()?;
        let child = Command::new(self.ctl)
            .args([MARK, self.step.name(), self.label])
            .current_dir(directory)
            .stdin(OwnedFd::from(theirs))
            .stdout(self.stdout)
            .stderr(self.log)
            .spawn()
            .doing(|| format!("cannot start {}", self.ctl.display()))?;
        Ok((ours, child))
    }
}
