//! Namespace work happens in `ctl __local <step>`: a process with one thread, started before any runtime.
//! (setns(2) and unshare(2) refuse a user namespace to a process with threads.)

use std::{
    ffi::OsString,
    fs::File,
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
};

use nix::sys::stat::{Mode, umask};

use super::{
    cloud,
    failure::Doing,
    host::{copy, dial, init, supervise},
    namespace::{channel::Channel, sandbox},
};
use crate::error::{Error, Result};

/// The hidden first argument.
const MARK: &str = "__local";

/// The running program by its open file: root inside need not be able to walk to it, and it may have been
/// replaced meanwhile.
pub(super) const THIS_PROGRAM: &str = "/proc/self/exe";

/// What such a process does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
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

    fn run(self, channel: &Channel) -> Result<()> {
        match self {
            Self::Hold => cloud::hold(channel),
            Self::Supervise => supervise::supervise(channel),
            Self::Keep => supervise::keep_host(channel),
            Self::Init => init::init(channel),
            Self::Dial => dial::connect(channel),
            Self::Unpack => sandbox::unpack(channel),
            Self::Remove => sandbox::remove(channel),
            Self::Copy => copy::copy(channel),
            Self::Run => sandbox::run(channel),
            Self::RunInside => sandbox::run_inside(channel),
        }
    }
}

/// Does a step of the local provider if this process was started for one. `arguments` are all of the
/// process's, its name first. Call this first in `main`, before any thread exists.
pub fn reexecuted(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.skip(1);
    if arguments.next()? != MARK {
        return None;
    }
    let name = arguments.next().unwrap_or_default();
    let step = Step::ALL.iter().find(|(known, _)| name == *known).map(|(_, step)| *step);
    Some(match step.ok_or_else(|| Error::invalid("no such step")).and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

fn serve(step: Step) -> Result<()> {
    let channel = Channel::inherited()?;
    // Modes are said explicitly; what the user's shell prefers must not change an image.
    umask(Mode::from_bits_truncate(0o022));
    // The parent may be gone already; then there is nobody left to tell.
    step.run(&channel).or_else(|error| channel.send_error(error))
}

/// How to start a step: its open files are at most its channel, `stdout` and `log`.
pub(super) struct Start<'a> {
    pub(super) ctl: &'a Path,
    pub(super) step: Step,
    /// Shown by ps(1), no more.
    pub(super) label: &'a str,
    pub(super) stdout: Stdio,
    pub(super) log: Stdio,
}

impl<'a> Start<'a> {
    /// A step that writes nowhere.
    pub(super) fn new(ctl: &'a Path, step: Step, label: &'a str) -> Self {
        Self { ctl, step, label, stdout: Stdio::null(), log: Stdio::null() }
    }

    /// Where its standard error goes.
    pub(super) fn log(mut self, log: File) -> Self {
        self.log = log.into();
        self
    }

    /// Starts it in `directory`; its end of the channel is its standard input.
    pub(super) fn spawn(self, directory: &Path) -> Result<(Channel, Child)> {
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
