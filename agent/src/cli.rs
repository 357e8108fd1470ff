//! What can be typed. One variant a verb.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use proto::PORT;

use crate::enrol::metadata::Metadata;

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
        /// The instance metadata service, such as http://169.254.169.254: it says which instance this is, and what it
        /// was told at launch. Without it nobody is asked
        #[arg(long, value_name = "URL", env = "MAGPIE_METADATA")]
        metadata: Option<Metadata>,
    },
    /// Carry out one queued run; started by `serve`
    Run {
        /// The run's id
        id: String,
        /// Where the agent keeps things
        #[arg(long, value_name = "DIR", default_value = "/var/lib/magpie")]
        root: PathBuf,
    },
    /// Before a disk becomes an image: remove whatever tells this machine from others
    Seal {
        /// Where the agent keeps things, within the tree
        #[arg(long, value_name = "DIR", default_value = "/var/lib/magpie")]
        root: PathBuf,
        /// The tree: the running system's, whose agent and recorder are stopped, or where a disk is mounted
        #[arg(long, value_name = "DIR", default_value = "/")]
        root_dir: PathBuf,
        /// Only print what would go
        #[arg(long)]
        dry_run: bool,
        /// Remove nothing; fail if anything is there that identifies a machine. In the running system only what no
        /// boot makes counts
        #[arg(long, conflicts_with = "dry_run")]
        check: bool,
    },
    /// Record every process, every second
    Record {
        /// Where the agent keeps things
        #[arg(long, value_name = "DIR", default_value = "/var/lib/magpie")]
        root: PathBuf,
        /// How to look at processes [default: bpf where it works, else proc]
        #[arg(long, value_enum)]
        collector: Option<Collector>,
    },
}

/// How the recorder looks at processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Collector {
    /// A BPF program that walks the kernel's own list of tasks
    Bpf,
    /// Files of /proc that are kept open
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
