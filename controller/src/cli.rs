//! What was typed: clap types only. What it means is [`crate::context`]'s and the commands' business.

mod help;
mod record;
mod run;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::{
    help::command,
    record::{CpuLog, Exits, Oom, Place, RecordCommand, RecordFetch, Top, Window},
    run::{Run, hint},
};
use crate::{
    config::{Kind, parse_duration, parse_size},
    context::Asked,
    pool::ladder::Reuse,
    render::Format,
};

const EXIT_CODES: &str = "\
Exit codes: 0 done · 1 a run failed on some host · 2 usage, configuration or bundle invalid, or the user's role does not \
allow it (nothing was touched) · 3 a host could not be reached or proved · 4 busy, or somebody else has the host · \
5 cancelled or interrupted · 10 --noop found pending changes. ctl run exits with the command's own code: see its --help";

const RIGHTS: &str = "\
Rights: a host that runs is asked; it wants the user role operator, and --force if it is somebody else's. For one that does not answer, the \
certificate is checked here, and the provider's tags say whose it is. Whoever has the provider's own rights (root on this machine, an \
AWS account) needs no ctl for it.";

/// One command from a role and a git revision to a running, configured, recorded host.
#[derive(Debug, Parser)]
#[command(name = "ctl", version, after_help = EXIT_CODES, max_term_width = 110)]
pub struct Cli {
    /// Configuration file [default: magpie.toml here or in a parent directory]
    #[arg(long, global = true, value_name = "FILE", env = "MAGPIE_CONFIG", hide_env_values = true, help_heading = help::GLOBAL)]
    pub config: Option<PathBuf>,
    /// Speak as this user of the CA directory [default: the only one]
    #[arg(long = "as", global = true, value_name = "NAME", env = "MAGPIE_USER", hide_env_values = true, help_heading = help::GLOBAL)]
    pub speak_as: Option<String>,
    /// Only hosts of this provider; for new ones, instead of the role's
    #[arg(long, global = true, value_enum, value_name = "PROVIDER", help_heading = help::GLOBAL)]
    pub provider: Option<Kind>,
    /// Format of the data on standard output
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, help_heading = help::GLOBAL)]
    pub output: Format,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// What of it concerns all verbs.
    pub fn asked(&self) -> Asked<'_> {
        Asked {
            config: self.config.as_deref(),
            user: self.speak_as.as_deref(),
            provider: self.provider,
            issues: matches!(self.command, Command::User(_)),
        }
    }
}

/// One variant a verb.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a fleet: magpie.toml with comments, CA directory, first admin certificate
    Init(Init),
    /// Build the image that hosts boot from, with the agent and Puppet inside
    Bake(Bake),
    /// See what images there are, and remove those that are of no more use
    #[command(subcommand)]
    Image(ImageCommand),
    /// From a role to a running, configured host: launch, enrol, push, apply
    Provision(Provision),
    /// Give hosts back to the pool, stopped, for the next provision of their role
    #[command(after_help = RIGHTS)]
    Release(Release),
    /// List hosts that were left half-made, are there twice, or whose lease is over; with --yes, clear them up
    #[command(after_help = RIGHTS)]
    Gc(Gc),
    /// Make a machine that is there already a host: its agent is installed over ssh, once
    Adopt(Adopt),
    /// Launch a copy of a host as it is now, under an identity of its own
    #[command(after_help = RIGHTS)]
    Clone(CloneHost),
    /// List the fleet's hosts
    Hosts(Hosts),
    /// Ask hosts how they are
    Status(Targets),
    /// Push the bundle to hosts and apply it
    Apply(Apply),
    /// Run a command on hosts
    Run(Run),
    /// List recent runs on hosts
    Runs(Targets),
    /// Follow a run again, from its beginning
    Attach(Attach),
    /// End a run and everything it started
    Cancel(RunId),
    /// Who used the CPU and the memory: the flight record, as ps would have printed it
    CpuLog(CpuLog),
    /// One moment of the flight record on the screen: live, and back in time with the arrow keys
    Top(Top),
    /// Which processes ended, when and how: the flight record again
    Exits(Exits),
    /// Whom the kernel killed for want of memory, who asked for it, and who held it
    Oom(Oom),
    /// See what a flight record holds, or copy it here
    #[command(subcommand)]
    Record(RecordCommand),
    /// Shut hosts down and keep their disks
    #[command(after_help = RIGHTS)]
    Stop(Stop),
    /// Boot stopped hosts
    Start(Names),
    /// End hosts and remove all that they were; adopted machines go on, without agent and record
    #[command(after_help = RIGHTS)]
    Destroy(Destroy),
    /// Look at the bundle without sending it
    #[command(subcommand)]
    Bundle(BundleCommand),
    /// Issue certificates for people, CI and monitoring
    #[command(subcommand)]
    User(UserCommand),
    /// Print a shell completion script
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, for those who package ctl
    #[command(hide = true)]
    Manual {
        /// Where to; made if need be
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
    /// For the provider of this role [default: the fleet's]
    #[arg(long)]
    pub role: Option<String>,
    /// So many images stay though no host uses them
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub keep: usize,
}

/// `ctl image …`
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// List the fleet's images, and how many hosts boot from each
    List,
    /// Say which images no host uses; with --yes, remove them
    Prune(ImagePrune),
}

/// `ctl image prune`
#[derive(Debug, Args)]
pub struct ImagePrune {
    /// So many of the newest stay, of each provider
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub keep: usize,
    /// Remove them
    #[arg(long)]
    pub yes: bool,
}

/// `ctl provision`
#[derive(Debug, Args)]
pub struct Provision {
    /// Role of the hosts, as in magpie.toml
    #[arg(long)]
    pub role: String,
    /// How many hosts
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub count: u16,
    /// Memory limit, such as 613M or 2G [default: the role's]
    #[arg(long, value_parser = parse_size)]
    pub memory: Option<u64>,
    /// Launch new hosts, whatever is there; the same as --reuse never
    #[arg(long, conflicts_with = "reuse")]
    pub fresh: bool,
    /// Which hosts that nobody has may be used again
    #[arg(long, value_enum, default_value_t)]
    pub reuse: Reuse,
    /// Leave out the differences between old and new files
    #[arg(long)]
    pub no_diff: bool,
    /// Say which hosts would be used again and how many launched, and do nothing
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
    /// Do not stop them
    #[arg(long)]
    pub keep_running: bool,
    /// Also hosts that somebody else has
    #[arg(long)]
    pub force: bool,
}

/// `ctl gc`
#[derive(Debug, Args)]
pub struct Gc {
    /// Do it
    #[arg(long)]
    pub yes: bool,
    /// In all regions
    #[arg(long)]
    pub all: bool,
}

/// `ctl hosts`
#[derive(Debug, Args)]
pub struct Hosts {
    /// In all regions
    #[arg(long)]
    pub all: bool,
    /// All columns, however wide the terminal is
    #[arg(long)]
    pub wide: bool,
}

/// Which Puppet code.
#[derive(Debug, Args)]
pub struct Source {
    /// Git revision of the Puppet code [default: the working tree as it is]
    #[arg(long, value_name = "REV")]
    pub rev: Option<String>,
}

/// `ctl adopt`
#[derive(Debug, Args)]
pub struct Adopt {
    /// Where ssh connects to: a name of its configuration, or an address; as root, or as a user who may use sudo
    #[arg(value_name = "[USER@]HOST")]
    pub destination: String,
    /// Role of the machine, as in magpie.toml
    #[arg(long)]
    pub role: String,
    /// Port of its sshd [default: ssh's own choice]
    #[arg(long)]
    pub port: Option<u16>,
    /// Address of its agent [default: what ssh makes of HOST]
    #[arg(long)]
    pub address: Option<String>,
    /// Options for ssh, such as -J bastion
    #[arg(last = true, value_name = "SSH OPTIONS")]
    pub ssh_options: Vec<String>,
}

/// `ctl destroy`
#[derive(Debug, Args)]
pub struct Destroy {
    /// Hosts by name or id
    #[arg(value_name = "HOST", required = true)]
    pub hosts: Vec<String>,
    /// Do it without asking; needed where nobody can be asked
    #[arg(long)]
    pub yes: bool,
    /// Also hosts that somebody else has
    #[arg(long)]
    pub force: bool,
    /// Of adopted machines only forget what is known of them, and leave their agent there
    #[arg(long)]
    pub forget: bool,
}

/// `ctl stop`
#[derive(Debug, Args)]
pub struct Stop {
    /// Hosts by name or id
    #[arg(value_name = "HOST", required = true)]
    pub hosts: Vec<String>,
    /// Also hosts that somebody else has
    #[arg(long)]
    pub force: bool,
}

/// `ctl clone`
#[derive(Debug, Args)]
pub struct CloneHost {
    /// Host by name or id; if it runs, it is paused while its disk is copied
    #[arg(value_name = "HOST")]
    pub host: String,
    /// Copy the flight record too
    #[arg(long)]
    pub with_record: bool,
    /// Also a host that somebody else has
    #[arg(long)]
    pub force: bool,
}

/// Some hosts, by name or by role; all, if neither is given. Of verbs that only look.
#[derive(Debug, Args)]
pub struct Targets {
    /// Hosts by name or id [default: all that run]
    #[arg(value_name = "HOST")]
    pub hosts: Vec<String>,
    /// All running hosts of a role
    #[arg(long, conflicts_with = "hosts")]
    pub role: Option<String>,
}

/// Some hosts, and never all unless that was said. Of verbs that change something.
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
    /// Say what would change, and change nothing
    #[arg(long)]
    pub noop: bool,
    /// Keep the run's log and diffs from users with the role reader
    #[arg(long)]
    pub private: bool,
    /// Leave out the differences between old and new files
    #[arg(long)]
    pub no_diff: bool,
    /// Only resources with one of these tags; a tag that no resource has is an error
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
    /// Pass escape sequences in a command's output on to this terminal
    #[arg(long)]
    pub raw: bool,
    /// Leave out the differences between old and new files
    #[arg(long)]
    pub no_diff: bool,
}

/// A run, by its id.
#[derive(Debug, Args)]
pub struct RunId {
    /// Id of the run, such as db-1-x7k2m9
    #[arg(value_name = "RUN")]
    pub run: String,
}

/// Some hosts, by name, at least one.
#[derive(Debug, Args)]
pub struct Names {
    /// Hosts by name or id
    #[arg(value_name = "HOST", required = true)]
    pub hosts: Vec<String>,
}

/// `ctl bundle …`
#[derive(Debug, Subcommand)]
pub enum BundleCommand {
    /// Build and check the bundle; print its digest
    Build(Source),
    /// List what is in the bundle
    Show(Source),
}

/// `ctl user …`
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Issue a certificate, of 12 hours unless --ttl says otherwise; needs the fleet's user CA key
    Issue(UserIssue),
}

/// `ctl user issue`
#[derive(Debug, Args)]
pub struct UserIssue {
    /// Name of the person or job
    pub name: String,
    /// What they may do; no role of hosts
    #[arg(long = "user-role", alias = "role", value_enum, value_name = "USER_ROLE", default_value_t = UserRole::Operator)]
    pub role: UserRole,
    /// How long it is valid, such as 12h or 7d: up to 30d for the user role reader, 7d for others
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
    /// Look
    Reader,
    /// Enrol new hosts and nothing else
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
