//! The layout of `ctl --help`: commands in groups, and global options apart from a command's own.

use clap::{Command, CommandFactory};

use super::Cli;

/// Heading of the options that every command accepts.
pub(super) const GLOBAL: &str = "Global options";

/// Every visible command, grouped by purpose.
const GROUPS: [(&str, &[&str]); 4] = [
    (
        "Hosts",
        &["provision", "adopt", "clone", "hosts", "status", "start", "stop", "release", "destroy", "gc"],
    ),
    ("Runs", &["apply", "run", "runs", "attach", "cancel"]),
    ("Flight record", &["diagnose", "cpu-log", "top", "exits", "oom", "record"]),
    ("Fleet and setup", &["init", "bake", "image", "bundle", "user", "completions", "help"]),
];

/// The clap definition of `ctl`, with the commands in groups.
pub fn command() -> Command {
    let mut command = Cli::command();
    command.build();
    let header = *command.get_styles().get_header();
    let literal = *command.get_styles().get_literal();
    let mut verbs = String::new();
    for (title, names) in GROUPS {
        verbs.push_str(&format!("{header}{title}:{header:#}\n"));
        for name in names {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            verbs.push_str(&format!("  {literal}{name:<11}{literal:#}  {about}\n"));
        }
        verbs.push('\n');
    }
    let template = format!(
        "{{before-help}}{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{verbs}{header}{GLOBAL}:{header:#}\n{{options}}{{after-help}}"
    );
    Cli::command().help_template(template)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let mut command = Cli::command();
        command.build();
        let mut shown: Vec<_> =
            command.get_subcommands().filter(|verb| !verb.is_hide_set()).map(Command::get_name).collect();
        let mut grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        shown.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(shown, grouped);
    }

    #[test]
    fn global_options_are_listed_apart_from_a_commands_own() {
        let mut command = Cli::command();
        command.build();
        let destroy = command.find_subcommand_mut("destroy").expect("it is there").render_help().to_string();
        let (own, global) = destroy.split_once("Global options:\n").expect("they are apart");
        assert!(own.contains("--yes") && own.contains("--force") && !own.contains("--config"), "{destroy}");
        assert!(
            global.contains("--config") && global.contains("Rights: you need the user role operator"),
            "{destroy}"
        );
    }

    #[test]
    fn the_help_lists_commands_in_groups_before_global_options() {
        let help = command().render_help().to_string();
        let (verbs, options) = help.split_once("\nGlobal options:\n").expect("they are apart");
        insta::assert_snapshot!(verbs, @r"
        One command from a role and a git revision to a running, configured, recorded host

        Usage: ctl [OPTIONS] <COMMAND>

        Hosts:
          provision    Get running, configured hosts of a role: launch or reuse, enrol, push, apply
          adopt        Turn an existing machine into a host by installing the agent over ssh
          clone        Launch a copy of a host in its current state, with its own identity
          hosts        List the fleet's hosts
          status       Show the current status of hosts
          start        Boot stopped hosts
          stop         Shut hosts down and keep their disks
          release      Stop hosts and return them to the pool, for the next provision of their role
          destroy      Delete hosts and all their data; adopted machines keep running without the agent
          gc           List unfinished, duplicate and expired hosts; clean them up with --yes

        Runs:
          apply        Push the Puppet code to hosts and apply it
          run          Run a command on hosts
          runs         List recent runs on hosts
          attach       Follow a run from its beginning
          cancel       Cancel a run and kill everything it started

        Flight record:
          diagnose     Say what went wrong on a host, who caused it, and what to do
          cpu-log      Show CPU and memory use by process from the flight record, in the format of ps
          top          Show a host's processes on a live screen, and go back in time with the arrow keys
          exits        Show process exits from the flight record
          oom          Show out-of-memory kills: victim, trigger, and biggest memory users
          record       Show what a flight record contains, or copy it to this machine

        Fleet and setup:
          init         Create a fleet: a commented magpie.toml, the CA directory, and an admin certificate
          bake         Build the image that hosts boot from, with the agent and Puppet
          image        List images and remove unused ones
          bundle       Build or inspect the bundle of Puppet code without sending it
          user         Issue certificates for people, CI jobs and monitoring
          completions  Print a shell completion script
          help         Print this message or the help of the given subcommand(s)
        ");
        let names: Vec<&str> =
            options.lines().filter_map(|line| line.trim().strip_prefix("--")?.split(' ').next()).collect();
        assert_eq!(names, ["config", "as", "provider", "output"]);
        assert!(help.contains("Exit codes: 0 done"), "{help}");
    }
}
