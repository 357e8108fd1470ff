//! Asks for confirmation before something is lost.

use std::io::{self, BufRead, IsTerminal};

use super::Output;

/// The user's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// `y` or `yes`, in any case.
    Yes,
    /// Anything else, including an empty line and end of input.
    No,
}

/// Whether stdin and stderr are both terminals, so that a user can answer.
pub(crate) fn can_be_asked() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks the question on stderr and waits for a line on stdin.
pub(crate) fn ask(output: &Output, question: &str) -> Answer {
    output.notes.bytes(format!("{question} [y/N] ").as_bytes());
    answer(&mut io::stdin().lock())
}

fn answer(input: &mut impl BufRead) -> Answer {
    let mut line = String::new();
    match input.read_line(&mut line) {
        Ok(_) if matches!(line.trim().to_lowercase().as_str(), "y" | "yes") => Answer::Yes,
        _ => Answer::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for yes in ["y\n", "Yes\n", " y", "YES\r\n"] {
            assert_eq!(answer(&mut yes.as_bytes()), Answer::Yes, "{yes:?}");
        }
        for no in ["", "\n", "n\n", "yess\n", "db-1\n", "\u{fffd}y\n"] {
            assert_eq!(answer(&mut no.as_bytes()), Answer::No, "{no:?}");
        }
    }
}
