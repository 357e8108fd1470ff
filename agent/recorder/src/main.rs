//! `recorder`: the flight recorder, and nothing else. What `agent record` becomes: `recorder HISTORY COLLECTOR LIMIT`.
//!
//! A program of its own, because all of a program that ever ran stays locked in memory: beside it, the agent's gRPC and TLS
//! took more of that than the record does. For the same reason it parses nothing but these: where to write, how to look
//! at processes, and the host's memory limit in bytes; `-` for what the recorder finds out itself.

use std::{
    env,
    error::Error,
    ffi::{OsStr, OsString},
    io,
    os::fd::AsFd,
    process::ExitCode,
};

use record::Collector;
use recorder::Options;

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(io::stderr).with_target(false).without_time().init();
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let [history, collector, limit] = arguments.as_slice() else {
        return Err("`agent record` starts this".into());
    };
    let options = Options {
        harden: true,
        memory_limit: known(limit, |text| text.parse().ok())?,
        collector: known(collector, Collector::from_name)?,
        ..Options::new(history)
    };
    let stop = recorder::stop_signals()?;
    Ok(recorder::run(&options, stop.as_fd())?)
}

/// What an argument says; `-` is nothing.
fn known<T>(argument: &OsStr, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, String> {
    match argument.to_str() {
        Some("-") => Ok(None),
        text => text.and_then(parse).map(Some).ok_or_else(|| format!("unknown: {}", argument.display())),
    }
}
