//! Entry point of the local provider's processes; each runs the one step that it was started for. They have a single
//! thread and no runtime, because setns(2) and unshare(2) refuse a user namespace to a process with threads.

use std::{ffi::OsString, process::ExitCode};

use nix::sys::stat::{Mode, umask};

use super::{
    cloud,
    host::{copy, dial, init, keep, supervise},
    namespace::{
        channel::Channel,
        sandbox,
        step::{MARK, Step},
        tree,
    },
};
use crate::error::{Error, Result};

/// Runs a step of the local provider if this process was started for one. `arguments` are all arguments of the
/// process, with its name first. Call this first in `main`, before there are threads.
pub fn reexecuted(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.skip(1);
    if arguments.next()? != MARK {
        return None;
    }
    let name = arguments.next().unwrap_or_default();
    Some(match Step::called(&name).ok_or_else(|| Error::invalid("no such step")).and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

fn serve(step: Step) -> Result<()> {
    let channel = Channel::inherited()?;
    // The user's own umask must not change an image; modes are set explicitly.
    umask(Mode::from_bits_truncate(0o022));
    // If the parent is gone, the error cannot be reported.
    work(step, &channel).or_else(|error| channel.send_error(error))
}

fn work(step: Step, channel: &Channel) -> Result<()> {
    match step {
        Step::Hold => cloud::hold(channel),
        Step::Supervise => supervise::supervise(channel),
        Step::Keep => keep::keep_host(channel),
        Step::Init => init::init(channel),
        Step::Dial => dial::connect(channel),
        Step::Unpack => tree::unpack(channel),
        Step::Remove => tree::remove(channel),
        Step::Copy => copy::copy(channel),
        Step::Run => sandbox::run(channel),
        Step::RunInside => sandbox::run_inside(channel),
    }
}
