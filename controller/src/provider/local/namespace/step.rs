//! A step is what a process of its own does in namespaces, `ctl __local <step>`; here is which steps there are, and how one
//! is started. What each does is elsewhere: those who start a step need not know it.

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

/// The running program by its open file: root inside need not be able to walk to it, and it may have been
/// replaced meanwhile.
pub(crate) const THIS_PROGRAM: &str = "/proc/self/exe";

/// What such a process does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Holds a cloud's namespaces.
    Hold,
    /// Is a host's life, over all its boots.
    Supervise,
    /// Boots a host once and stays with it.
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
    /// The second half of that, alone in its process namespace.
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

/// How to start a step: its open files are at most its channel, `stdout` and `log`.
pub(crate) struct Start<'a> {
    pub(crate) ctl: &'a Path,
    pub(crate) step: Step,
    /// Shown by ps(1), no more.
    pub(crate) label: &'a str,
    pub(crate) stdout: Stdio,
    pub(crate) log: Stdio,
}

impl<'a> Start<'a> {
    /// A step that writes nowhere.
    pub(crate) fn new(ctl: &'a Path, step: Step, label: &'a str) -> Self {
        Self { ctl, step, label, stdout: Stdio::null(), log: Stdio::null() }
    }

    /// Where its standard error goes.
    pub(crate) fn log(mut self, log: File) -> Self {
        self.log = log.into();
        self
    }

    /// Starts it in `directory`; its end of the channel is its standard input.
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
