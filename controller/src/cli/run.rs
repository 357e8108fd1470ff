//! Arguments of `ctl run`, and the hint for a command line without `--`.

use clap::Args;

use crate::config::parse_size;

const MORE: &str = "\
Standard input: ctl passes its own standard input to the command, the same on every host. It reads up to 4 MiB, to the end, \
before the command starts. It does not read from a terminal.

Exit codes: ctl run exits like ssh, with the command's own exit code (128 + signal if the command was killed, 127 if it could not be \
started); with several hosts, with the highest. ctl's own errors use 2 to 5, as in `ctl --help`; only then does stderr have a line that \
begins with `error:` (or `detached:` after Ctrl-C or SIGTERM), and --output json an object of type `error` (or `detached`). In JSON, the command's \
exit code is `summary.exit_code` in each host's `recap`. If output was cut at --max-output, an exit code of 0 becomes 1.

Secrets: every user on the host can see the command's arguments in `ps` while it runs; the flight record and `ctl runs` keep them, \
even with --private. Standard input is never stored: `ctl run db-1 --private -- sh -s < script`.";

/// `ctl run`
#[derive(Debug, Args)]
#[command(after_long_help = MORE, after_help = "See `ctl run --help` for standard input, exit codes and secrets")]
pub struct Run {
    /// Host by name or id
    #[arg(value_name = "HOST", required_unless_present = "role", conflicts_with = "role")]
    pub host: Option<String>,
    /// All running hosts of a role
    #[arg(long)]
    pub role: Option<String>,
    /// Hide the output from users with the role reader. The command's arguments stay visible in `ps` on the host and in
    /// the flight record: pass secrets on standard input
    #[arg(long)]
    pub private: bool,
    /// Pass escape sequences in the output to this terminal; files and pipes always get the output unchanged
    #[arg(long)]
    pub raw: bool,
    /// Give the command no standard input
    #[arg(short = 'n', long)]
    pub no_stdin: bool,
    /// Maximum output to keep; the run fails if there is more
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_size)]
    pub max_output: u64,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// Options with a value that may come before the command.
const VALUED: [&str; 6] = ["--role", "--max-output", "--output", "--as", "--config", "--provider"];

/// The corrected command line, if `words` are a `run` that lacks the `--` before its command.
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

/// The command as a user would type it.
fn spoken(command: &[String]) -> String {
    command.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

/// A word quoted for a shell where necessary.
fn quote(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,@%+".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl Run {
    /// The corrected command line, if the command is one word that looks like a shell command line.
    pub fn shell_hint(&self) -> Option<String> {
        let [line] = self.command.as_slice() else { return None };
        let is_line =
            line.contains(|letter: char| letter.is_whitespace() || "|&;<>()$`*?~\"'".contains(letter));
        let target = self.host.clone().or_else(|| self.role.as_ref().map(|role| format!("--role {role}")));
        is_line.then(|| {
            let target = target.unwrap_or_default();
            format!(
                "the command is not run by a shell; to use one: `ctl run {target} -- sh -c {}`",
                quote(line)
            )
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
            Some("the command is not run by a shell; to use one: `ctl run web-1 -- sh -c 'ps aux | wc -l'`")
        );
        assert_eq!(run(&["/no/such"]), None);
        assert_eq!(run(&["no such", "x"]), None);
    }

    #[test]
    fn the_help_names_the_real_limit() {
        assert!(MORE.contains(&format!("up to {} MiB", proto::MAX_STDIN_BYTES >> 20)));
    }
}
