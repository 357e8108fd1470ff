//! `ctl run`, and what is meant by a command line without its `--`.

use clap::Args;

use crate::config::parse_size;

const MORE: &str = "\
Standard input: what ctl reads on its own is given to the command, on each of several hosts the same: up to 4 MiB, read to its end \
before the command starts. A terminal is not read.

Exit codes: the command's own, as ssh does it (128 + signal if it was killed, 127 if it could not be started); of several hosts the \
highest. Codes of ctl itself are 2 to 5, as in `ctl --help`; then, and only then, stderr has a line that begins with `error:` (or \
`detached:` after Ctrl-C), and --output json an object of the type `error` (or `detached`). In JSON the command's \
code is `summary.exit_code` of each host's `recap`. Output that was cut at --max-output makes an exit code of 0 a 1.

Secrets: while the command runs, every user of the host sees its arguments in `ps`, and the flight record and `ctl runs` keep them, \
also with --private. Standard input is kept nowhere: `ctl run db-1 --private -- sh -s < script`.";

/// `ctl run`
#[derive(Debug, Args)]
#[command(after_long_help = MORE, after_help = "`ctl run --help` says more: standard input, exit codes, secrets")]
pub struct Run {
    /// Host by name or id
    #[arg(value_name = "HOST", required_unless_present = "role", conflicts_with = "role")]
    pub host: Option<String>,
    /// All running hosts of a role
    #[arg(long)]
    pub role: Option<String>,
    /// Keep the output from users with the role reader; the command's arguments stay visible in `ps` on the host and in the flight
    /// record, so pass secrets on standard input
    #[arg(long)]
    pub private: bool,
    /// Pass escape sequences in the output on to this terminal; files and pipes always get it as it is
    #[arg(long)]
    pub raw: bool,
    /// Give the command no standard input
    #[arg(short = 'n', long)]
    pub no_stdin: bool,
    /// Keep this much of the output; the run fails if there is more
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_size)]
    pub max_output: u64,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// Options that take a word after them, and may stand before a command.
const VALUED: [&str; 6] = ["--role", "--max-output", "--output", "--as", "--config", "--provider"];

/// What was probably meant by these words, if they are a `run` whose command has no `--` before it.
pub fn hint(words: &[String]) -> Option<String> {
    let at = words.iter().position(|word| word == "run")?;
    if words.iter().any(|word| word == "--") {
        return None;
    }
    let (mut rest, mut named) = (at + 1, false);
    while let Some(word) = words.get(rest) {
        match word.strip_prefix('-') {
            Some(_) => {
                named |= word == "--role" || word.starts_with("--role=");
                rest += usize::from(VALUED.contains(&word.as_str()));
            }
            None if named => break,
            None => named = true,
        }
        rest += 1;
    }
    let command = words.get(rest..).filter(|command| !command.is_empty())?;
    let said = words[..rest].iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
    Some(format!("a command comes after `--`: `ctl {said} -- {}`", spoken(command)))
}

/// The command as one would type it.
fn spoken(command: &[String]) -> String {
    command.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

/// A word for a shell: in quotes where it needs them.
fn quote(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,@%+".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl Run {
    /// What was probably meant by a command that is no program but a line for a shell.
    pub fn shell_hint(&self) -> Option<String> {
        let [line] = self.command.as_slice() else { return None };
        let is_line =
            line.contains(|letter: char| letter.is_whitespace() || "|&;<>()$`*?~\"'".contains(letter));
        let target = self.host.clone().or_else(|| self.role.as_ref().map(|role| format!("--role {role}")));
        is_line.then(|| {
            let target = target.unwrap_or_default();
            format!("no shell reads the command; one does with `ctl run {target} -- sh -c {}`", quote(line))
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn hinted(line: &str) -> Option<String> {
        hint(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_command_without_its_dashes_is_shown_with_them() {
        let shown = |command: &str| Some(format!("a command comes after `--`: `ctl {command}`"));
        assert_eq!(hinted("run web-1 hostname"), shown("run web-1 -- hostname"));
        assert_eq!(hinted("run web-1 df -h"), shown("run web-1 -- df -h"));
        assert_eq!(
            hinted("--as eva run --role web uptime -p"),
            shown("--as eva run --role web -- uptime -p")
        );
        assert_eq!(hinted("run --private web-1 ls"), shown("run --private web-1 -- ls"));
        for nothing in ["run web-1", "run", "run web-1 -- ls", "hosts web-1 x", "run --role web"] {
            assert_eq!(hinted(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_line_for_a_shell_is_shown_with_one() {
        let run = |command: &[&str]| {
            let words = ["ctl", "run", "web-1", "--"].iter().chain(command);
            match Cli::try_parse_from(words).expect("parses").command {
                Command::Run(run) => run.shell_hint(),
                _ => unreachable!("it is a run"),
            }
        };
        assert_eq!(
            run(&["ps aux | wc -l"]).as_deref(),
            Some("no shell reads the command; one does with `ctl run web-1 -- sh -c 'ps aux | wc -l'`")
        );
        assert_eq!(run(&["/no/such"]), None);
        assert_eq!(run(&["no such", "x"]), None);
    }

    #[test]
    fn the_help_names_the_real_limit() {
        assert!(MORE.contains(&format!("up to {} MiB", proto::MAX_STDIN_BYTES >> 20)));
    }
}
