//! The command line: clap types only. [`crate::context`] and the commands interpret it.

mod help;
mod record;
mod run;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::{
    help::command,
    record::{CpuLog, Diagnose, Exits, Oom, Place, RecordCommand, RecordFetch, Top, Window},
    run::{Run, hint},
};
use crate::{
    config::{Kind, parse_duration, parse_memory},
    context::Asked,
    pool::ladder::Reuse,
    render::Format,
};

const EXIT_CODES: &str = "\
Exit codes: 0 done · 1 a run failed on at least one host · 2 invalid usage, configuration or bundle, or your user role does \
not allow the command (nothing was changed) · 3 a host could not be reached or verified · 4 busy, or the host belongs to \
someone else · 5 cancelled or interrupted · 10 --noop found pending changes. ctl run exits with the command's own exit \
code: see `ctl run --help`";

const RIGHTS: &str = "\
Rights: you need the user role operator, and --force if the host belongs to someone else. ctl checks this with the host; if the host \
does not answer, ctl checks your certificate itself and takes the owner from the provider's tags. Anyone with direct access to the \
provider (root on this machine, an AWS account) can do the same without ctl.";

/// One command from a role and a git revision to a running, configured, recorded host.
#[derive(Debug, Parser)]
#[command(name = "ctl", version, after_help = EXIT_CODES, max_term_width = 110)]
pub struct Cli {
    /// Configuration file [default: magpie.toml here or in a parent directory]
    #[arg(long, global = true, value_name = "FILE", env = "MAGPIE_CONFIG", hide_env_values = true, help_heading = help::GLOBAL)]
    pub config: Option<PathBuf>,
    /// User certificate to connect with, from the CA directory [default: the only one there]
    #[arg(long = "as", global = true, value_name = "NAME", env = "MAGPIE_USER", hide_env_values = true, help_heading = help::GLOBAL)]
    pub speak_as: Option<String>,
    /// Use only hosts of this provider, and launch new hosts there instead of at the role's provider
    #[arg(long, global = true, value_enum, value_name = "PROVIDER", help_heading = help::GLOBAL)]
    pub provider: Option<Kind>,
    /// Format of the output on stdout
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, help_heading = help::GLOBAL)]
    pub output: Format,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// The options that apply to all commands.
    pub fn asked(&self) -> Asked<'_> {
        Asked {
            config: self.config.as_deref(),
            user: self.speak_as.as_deref(),
            provider: self.provider,
            issues: matches!(self.command, Command::User(_)),
        }
    }
}

/// One variant per command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a fleet: a commented magpie.toml, the CA directory, and an admin certificate
    Init(Init),
    /// Build the image that hosts boot from, with the agent and Puppet
    Bake(Bake),
    /// List images and remove unused ones
    #[command(subcommand)]
    Image(ImageCommand),
    /// Get running, configured hosts of a role: launch or reuse, enrol, push, apply
    Provision(Provision),
    /// Stop hosts and return them to the pool, for the next provision of their role
    #[command(after_help = RIGHTS)]
    Release(Release),
    /// List unfinished, duplicate and expired hosts; clean them up with --yes
    #[command(after_help = RIGHTS)]
    Gc(Gc),
    /// Turn an existing machine into a host by installing the agent over ssh
    Adopt(Adopt),
    /// Launch a copy of a host in its current state, with its own identity
    #[command(after_help = RIGHTS)]
    Clone(CloneHost),
    /// List the fleet's hosts
    Hosts(Hosts),
    /// Show the current status of hosts
    Status(Targets),
    /// Push the Puppet code to hosts and apply it
    Apply(Apply),
    /// Run a command on hosts
    Run(Run),
    /// List recent runs on hosts
    Runs(Runs),
    /// Follow a run from its beginning
    Attach(Attach),
    /// Cancel a run and kill everything it started
    Cancel(RunId),
    /// Say what went wrong on a host, who caused it, and what to do
    Diagnose(Diagnose),
    /// Show CPU and memory use by process from the flight record, in the format of ps
    CpuLog(CpuLog),
    /// Show a host's processes on a live screen, and go back in time with the arrow keys
    Top(Top),
    /// Show process exits from the flight record
    Exits(Exits),
    /// Show out-of-memory kills: victim, trigger, and biggest memory users
    Oom(Oom),
    /// Show what a flight record contains, or copy it to this machine
    #[command(subcommand)]
    Record(RecordCommand),
    /// Shut hosts down and keep their disks
    #[command(after_help = RIGHTS)]
    Stop(Stop),
    /// Boot stopped hosts
    Start(Names),
    /// Delete hosts and all their data; adopted machines keep running without the agent
    #[command(after_help = RIGHTS)]
    Destroy(Destroy),
    /// Build or inspect the bundle of Puppet code without sending it
    #[command(subcommand)]
    Bundle(BundleCommand),
    /// Issue certificates for people, CI jobs and monitoring
    #[command(subcommand)]
    User(UserCommand),
    /// Print a shell completion script
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages (for packaging)
    #[command(hide = true)]
    Manual {
        /// Directory for the pages; created if missing
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// `ctl init`
#[derive(Debug, Args)]
pub struct Init {
    /// Name of the fleet [default: name of this directory]
    #[arg(long)]
    pub name: Option<String>,
}

/// `ctl bake`
#[derive(Debug, Args)]
pub struct Bake {
    /// Build for the provider of this role [default: the fleet's provider]
    #[arg(long)]
    pub role: Option<String>,
    /// Keep this many unused images
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub keep: usize,
    /// Build only the base of local images, which needs no agent; `make demo` does while the agent is compiled
    #[arg(long, hide = true)]
    pub base: bool,
}

/// `ctl image …`
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// List the fleet's images, and how many hosts boot from each
    List,
    /// List unused images; remove them with --yes
    Prune(ImagePrune),
}

/// `ctl image prune`
#[derive(Debug, Args)]
pub struct ImagePrune {
    /// Keep this many unused images of each provider, newest first
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub keep: usize,
    /// Remove the images (default: only list them)
    #[arg(long)]
    pub yes: bool,
}

/// `ctl provision`
#[derive(Debug, Args)]
pub struct Provision {
    /// Role of the hosts, from magpie.toml
    #[arg(long)]
    pub role: String,
    /// How many hosts, besides those in use
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub count: u16,
    /// Memory limit, such as 613M or 2G; at least 32M [default: the role's]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub memory: Option<u64>,
    /// Which free hosts may be reused
    #[arg(long, value_enum, default_value_t)]
    pub reuse: Reuse,
    /// Do not show diffs of changed files
    #[arg(long)]
    pub no_diff: bool,
    /// Show which hosts would be reused and how many launched; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Which Puppet code
    #[command(flatten)]
    pub source: Source,
}

/// `ctl release`
#[derive(Debug, Args)]
pub struct Release {
    /// Hosts by name or id
    #[arg(value_name = "HOST", required = true)]
    pub hosts: Vec<String>,
    /// Leave the hosts running
    #[arg(long)]
    pub keep_running: bool,
    /// Even if the host belongs to someone else
    #[arg(long)]
    pub force: bool,
}

/// `ctl gc`
#[derive(Debug, Args)]
pub struct Gc {
    /// Make the changes (default: only list them)
    #[arg(long)]
    pub yes: bool,
    /// Look in all regions
    #[arg(long)]
    pub all: bool,
}

/// `ctl hosts`
#[derive(Debug, Args)]
pub struct Hosts {
    /// List hosts in all regions
    #[arg(long)]
    pub all: bool,
    /// Show all columns, even if the terminal is too narrow
    #[arg(long)]
    pub wide: bool,
}

/// Which Puppet code.
#[derive(Debug, Args)]
pub struct Source {
    /// Git revision of the Puppet code [default: the working tree, with uncommitted changes]
    #[arg(long, value_name = "REV")]
    pub rev: Option<String>,
}

/// `ctl adopt`
#[derive(Debug, Args)]
pub struct Adopt {
    /// Machine to connect to: a Host from your ssh configuration, or an address; log in as root or as a user with sudo
    #[arg(value_name = "[USER@]HOST")]
    pub destination: String,
    /// Role of the machine, from magpie.toml
    #[arg(long)]
    pub role: String,
    /// Port of sshd [default: from your ssh configuration]
    #[arg(long)]
    pub port: Option<u16>,
    /// Address of the agent [default: the address that ssh uses for HOST]
    #[arg(long)]
    pub address: Option<String>,
    /// Extra ssh options, such as -J bastion
    #[arg(last = true, value_name = "SSH OPTIONS")]
    pub ssh_options: Vec<String>,
}

/// `ctl destroy`
#[derive(Debug, Args)]
pub struct Destroy {
    /// Hosts by name or id
    #[arg(value_name = "HOST", required = true)]
    pub hosts: Vec<String>,
    /// Do not ask for confirmation; required without a terminal
    #[arg(long)]
    pub yes: bool,
    /// Even if the host belongs to someone else
    #[arg(long)]
    pub force: bool,
    /// Only remove adopted machines from the fleet; leave the agent installed
    #[arg(long)]
    pub forget: bool,
}

/// `ctl stop`
#[derive(Debug, Args)]
pub struct Stop {
    /// Hosts by name or id
    #[arg(value_name = "HOST", required = true)]
    pub hosts: Vec<String>,
    /// Even if the host belongs to someone else
    #[arg(long)]
    pub force: bool,
}

/// `ctl clone`
#[derive(Debug, Args)]
pub struct CloneHost {
    /// Host by name or id; a running host is paused while its disk is copied
    #[arg(value_name = "HOST")]
    pub host: String,
    /// Copy the flight record too
    #[arg(long)]
    pub with_record: bool,
    /// Even if the host belongs to someone else
    #[arg(long)]
    pub force: bool,
}

/// Hosts by name or role; all running hosts if neither is given. For read-only commands.
#[derive(Debug, Args)]
pub struct Targets {
    /// Hosts by name or id [default: all running hosts]
    #[arg(value_name = "HOST")]
    pub hosts: Vec<String>,
    /// All running hosts of a role
    #[arg(long, conflicts_with = "hosts")]
    pub role: Option<String>,
}

/// `ctl runs`
#[derive(Debug, Args)]
pub struct Runs {
    /// Which hosts
    #[command(flatten)]
    pub targets: Targets,
    /// Show at most this many runs of each host, the newest; a host keeps about 50
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub limit: u32,
}

/// Hosts by name or role; all only with `--all`. For commands that change hosts.
#[derive(Debug, Args)]
pub struct Chosen {
    /// Hosts by name or id
    #[arg(value_name = "HOST")]
    pub hosts: Vec<String>,
    /// All running hosts of a role
    #[arg(long, conflicts_with = "hosts")]
    pub role: Option<String>,
    /// All running hosts
    #[arg(long, conflicts_with_all = ["hosts", "role"])]
    pub all: bool,
}

/// `ctl apply`
#[derive(Debug, Args)]
pub struct Apply {
    /// Which hosts
    #[command(flatten)]
    pub targets: Chosen,
    /// Show what would change; change nothing
    #[arg(long)]
    pub noop: bool,
    /// Hide the run's log and diffs from users with the role reader
    #[arg(long)]
    pub private: bool,
    /// Do not show diffs of changed files
    #[arg(long)]
    pub no_diff: bool,
    /// Apply only resources with one of these tags; fails if no resource has one
    #[arg(long, value_delimiter = ',')]
    pub tags: Vec<String>,
    /// Which Puppet code
    #[command(flatten)]
    pub source: Source,
}

/// `ctl attach`
#[derive(Debug, Args)]
pub struct Attach {
    /// Which run
    #[command(flatten)]
    pub run: RunId,
    /// Pass escape sequences in the command's output to this terminal
    #[arg(long)]
    pub raw: bool,
    /// Do not show diffs of changed files
    #[arg(long)]
    pub no_diff: bool,
}

/// A run, by its id.
#[derive(Debug, Args)]
pub struct RunId {
    /// Run id, such as db-1-x7k2m9
    #[arg(value_name = "RUN")]
    pub run: String,
}

/// One or more hosts, by name or id.
#[derive(Debug, Args)]
pub struct Names {
    /// Hosts by name or id
    #[arg(value_name = "HOST", required = true)]
    pub hosts: Vec<String>,
}

/// `ctl bundle …`
#[derive(Debug, Subcommand)]
pub enum BundleCommand {
    /// Build and check the bundle, and print its digest
    Build(Source),
    /// List the files in the bundle
    Show(Source),
}

/// `ctl user …`
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Issue a certificate, valid for 12 hours unless you set --ttl; needs the fleet's user CA key
    Issue(UserIssue),
}

/// `ctl user issue`
#[derive(Debug, Args)]
pub struct UserIssue {
    /// Name of the person or job
    pub name: String,
    /// What the user may do (not a role of hosts)
    #[arg(long = "user-role", alias = "role", value_enum, value_name = "USER_ROLE", default_value_t = UserRole::Operator)]
    pub role: UserRole,
    /// Lifetime, such as 12h or 7d; at most 30d for the user role reader, 7d for the others
    #[arg(long, value_name = "TIME", default_value = "12h", value_parser = parse_duration)]
    pub ttl: Duration,
}

/// Roles in certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UserRole {
    /// Everything
    Admin,
    /// Push, apply, run, cancel
    Operator,
    /// Read only
    Reader,
    /// Enrol new hosts, nothing else
    Enroller,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
