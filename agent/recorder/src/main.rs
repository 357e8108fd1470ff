//! `recorder`: the flight recorder as a program. `agent record` executes it: `recorder HISTORY COLLECTOR LIMIT`.
//!
//! A separate program, because every page of a program that was ever used stays locked in memory: the agent's gRPC
//! and TLS code would take more of it than the record does. For the same reason, it parses only three arguments:
//! record directory, collector, and the host's memory limit in bytes; `-` lets the recorder decide.

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
        return Err("usage: recorder HISTORY COLLECTOR LIMIT (`agent record` starts this program)".into());
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

/// The value of an argument; `None` for `-`.
fn known<T>(argument: &OsStr, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, String> {
    match argument.to_str() {
        Some("-") => Ok(None),
        text => text.and_then(parse).map(Some).ok_or_else(|| format!("unknown: {}", argument.display())),
    }
}
