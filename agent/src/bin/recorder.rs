//! `recorder`: the flight recorder, and nothing else. What `agent record` becomes.
//!
//! A program of its own, because all of a program that ever ran stays locked in memory: beside it, the agent's gRPC and TLS
//! took more of that than the record does. For the same reason it parses nothing; `agent record` does.

use std::{env, error::Error, io, os::fd::AsFd, process::ExitCode};

use agent::{limits, paths::Paths, record};
use proto::history::Collector;

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
    let mut arguments = env::args_os().skip(1);
    // An option, `--help` say, is no place to record to.
    let root = arguments.next().filter(|root| !root.as_encoded_bytes().starts_with(b"-"));
    let root = root.ok_or("`agent record` starts this")?;
    let collector = match arguments.next() {
        Some(name) => {
            let known = name.to_str().and_then(Collector::from_name);
            Some(known.ok_or_else(|| format!("there is no collector {}", name.display()))?)
        }
        None => None,
    };
    let paths = Paths::new(root);
    let stop = record::stop_signals()?;
    let options = record::Options {
        harden: true,
        memory_limit: limits::provided(&paths),
        collector,
        ..record::Options::new(paths.history())
    };
    Ok(record::run(&options, stop.as_fd())?)
}
