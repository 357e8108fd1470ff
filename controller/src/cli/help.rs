//! What `ctl --help` shows: the verbs by what they are for, and the options that all of them have apart from their own.

use clap::{Command, CommandFactory};

use super::Cli;

/// Heading of the options that every verb has.
pub(super) const GLOBAL: &str = "Global options";

/// Every verb that is shown, by what it is for.
const GROUPS: [(&str, &[&str]); 4] = [
    (
        "Hosts",
        &["provision", "adopt", "clone", "hosts", "status", "start", "stop", "release", "destroy", "gc"],
    ),
    ("Runs", &["apply", "run", "runs", "attach", "cancel"]),
    ("Flight record", &["cpu-log", "top", "exits", "oom", "record"]),
    ("Fleet and setup", &["init", "bake", "image", "bundle", "user", "completions", "help"]),
];

/// The definition of the command line, whose own help groups the verbs.
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
    fn every_verb_is_in_one_group() {
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
    fn the_options_of_all_verbs_are_apart_from_a_verbs_own() {
        let mut command = Cli::command();
        command.build();
        let destroy = command.find_subcommand_mut("destroy").expect("it is there").render_help().to_string();
        let (own, global) = destroy.split_once("Global options:\n").expect("they are apart");
        assert!(own.contains("--yes") && own.contains("--force") && !own.contains("--config"), "{destroy}");
        assert!(
            global.contains("--config") && global.contains("Rights: a host that runs is asked"),
            "{destroy}"
        );
    }

    #[test]
    fn the_help_is_read_from_top_to_bottom() {
        let help = command().render_help().to_string();
        let (verbs, options) = help.split_once("\nGlobal options:\n").expect("they are apart");
        insta::assert_snapshot!(verbs, @r"
        One command from a role and a git revision to a running, configured, recorded host

        Usage: ctl [OPTIONS] <COMMAND>

        Hosts:
          provision    From a role to a running, configured host: launch, enrol, push, apply
          adopt        Make a machine that is there already a host: its agent is installed over ssh, once
          clone        Launch a copy of a host as it is now, under an identity of its own
          hosts        List the fleet's hosts
          status       Ask hosts how they are
          start        Boot stopped hosts
          stop         Shut hosts down and keep their disks
          release      Give hosts back to the pool, stopped, for the next provision of their role
          destroy      End hosts and remove all that they were; adopted machines go on, without agent and record
          gc           List hosts that were left half-made, are there twice, or whose lease is over; with --yes, clear them up

        Runs:
          apply        Push the bundle to hosts and apply it
          run          Run a command on hosts
          runs         List recent runs on hosts
          attach       Follow a run again, from its beginning
          cancel       End a run and everything it started

        Flight record:
          cpu-log      Who used the CPU and the memory: the flight record, as ps would have printed it
          top          One moment of the flight record on the screen: live, and back in time with the arrow keys
          exits        Which processes ended, when and how: the flight record again
          oom          Whom the kernel killed for want of memory, who asked for it, and who held it
          record       See what a flight record holds, or copy it here

        Fleet and setup:
          init         Make a fleet: magpie.toml with comments, CA directory, first admin certificate
          bake         Build the image that hosts boot from, with the agent and Puppet inside
          image        See what images there are, and remove those that are of no more use
          bundle       Look at the bundle without sending it
          user         Issue certificates for people, CI and monitoring
          completions  Print a shell completion script
          help         Print this message or the help of the given subcommand(s)
        ");
        let names: Vec<&str> =
            options.lines().filter_map(|line| line.trim().strip_prefix("--")?.split(' ').next()).collect();
        assert_eq!(names, ["config", "as", "provider", "output"]);
        assert!(help.contains("Exit codes: 0 done"), "{help}");
    }
}
