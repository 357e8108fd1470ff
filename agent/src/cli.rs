//! The command line: one variant for each command.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use proto::PORT;

use crate::enrol::metadata::Metadata;

/// Magpie's agent: applies Puppet, runs commands, records every process
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The agent's commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enrol this host if needed, then serve controllers
    Serve {
        /// The agent's data directory
        #[arg(long, value_name = "DIR", default_value = "/var/lib/magpie")]
        root: PathBuf,
        /// Address and port to listen on
        #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from(([0, 0, 0, 0], PORT)))]
        listen: SocketAddr,
        /// URL of the instance metadata service, such as http://169.254.169.254. The agent reads the instance's id and
        /// user-data there; without this option it uses no metadata service
        #[arg(long, value_name = "URL", env = "MAGPIE_METADATA")]
        metadata: Option<Metadata>,
    },
    /// Execute one queued run; started by `serve`
    Run {
        /// The run's id
        id: String,
        /// The agent's data directory
        #[arg(long, value_name = "DIR", default_value = "/var/lib/magpie")]
        root: PathBuf,
    },
    /// Prepare a disk for imaging: remove everything that identifies this machine
    Seal {
        /// The agent's data directory, within the tree
        #[arg(long, value_name = "DIR", default_value = "/var/lib/magpie")]
        root: PathBuf,
        /// Root of the tree: `/` for the running system (stops the agent and the recorder), or the mount point of a
        /// disk
        #[arg(long, value_name = "DIR", default_value = "/")]
        root_dir: PathBuf,
        /// Only list what would be removed
        #[arg(long)]
        dry_run: bool,
        /// Remove nothing; fail if the tree holds anything that identifies a machine. On the running system, ignore
        /// files that every boot recreates
        #[arg(long, conflicts_with = "dry_run")]
        check: bool,
    },
    /// Record every process, every second
    Record {
        /// The agent's data directory
        #[arg(long, value_name = "DIR", default_value = "/var/lib/magpie")]
        root: PathBuf,
        /// How to read processes [default: bpf if the kernel supports it, else proc]
        #[arg(long, value_enum)]
        collector: Option<Collector>,
    },
}

/// How the recorder reads processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Collector {
    /// A BPF program that iterates over the kernel's tasks
    Bpf,
    /// Files in /proc, kept open
    Proc,
}

impl From<Collector> for record::Collector {
    fn from(collector: Collector) -> Self {
        match collector {
            Collector::Bpf => Self::Bpf,
            Collector::Proc => Self::Proc,
        }
    }
}
