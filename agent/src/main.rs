//! The agent's command line: which of its processes to be.

use std::{path::PathBuf, process::ExitCode};

use agent::{paths::Paths, run};
use clap::{Parser, Subcommand};

/// Magpie's on-host agent.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Carry out one queued run; started by `serve`
    Run {
        /// The run's id
        id: String,
        /// The agent's directory
        #[arg(long, default_value = "/var/lib/magpie")]
        root: PathBuf,
    },
}

fn main() -> ExitCode {
    let Verb::Run { id, root } = Arguments::parse().verb;
    match run::supervise(&Paths::new(root), &id) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
