//! What can be typed. One variant a verb.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand};
use proto::PORT;

/// Magpie's agent: applies Puppet, runs commands, records every process.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Be enrolled if need be, then serve controllers
    Serve {
        /// Where the agent keeps things
        #[arg(long, value_name = "DIR", default_value = "/var/lib/magpie")]
        root: PathBuf,
        /// Where to listen
        #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from(([0, 0, 0, 0], PORT)))]
        listen: SocketAddr,
    },
    /// Carry out one queued run; started by `serve`
    Run {
        /// The run's id
        id: String,
        /// Where the agent keeps things
        #[arg(long, value_name = "DIR", default_value = "/var/lib/magpie")]
        root: PathBuf,
    },
    /// Record every process, every second
    Record {
        /// Where the agent keeps things
        #[arg(long, value_name = "DIR", default_value = "/var/lib/magpie")]
        root: PathBuf,
    },
}
