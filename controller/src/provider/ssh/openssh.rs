//! The user's own ssh client, with its configuration, keys, agent, jump hosts, and prompts at the terminal.

use std::{fmt, io, process::Stdio};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
};

use crate::{
    error::{Error, Result},
    provider::last_words::LastWords,
};

/// Destination of ssh.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// `[user@]host`, or a name from the ssh configuration.
    pub(crate) destination: String,
    /// Port of the machine's sshd; `None` leaves it to the ssh configuration.
    pub(crate) port: Option<u16>,
    /// More options of ssh(1).
    pub(crate) options: Vec<String>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.destination)
    }
}

impl Target {
    fn ssh(&self, first: &str) -> Command {
        let mut command = Command::new("ssh");
        command.arg(first).args(&self.options).kill_on_drop(true);
        if let Some(port) = self.port {
            command.args(["-p", &port.to_string()]);
        }
        command.args(["--", &self.destination]);
        command
    }

    /// The host name that ssh resolves the destination to, by its configuration.
    ///
    /// # Errors
    /// ssh is not installed, or its configuration is wrong.
    pub(crate) async fn host_name(&self) -> Result<String> {
        let output = self.ssh("-G").stdin(Stdio::null()).output().await.map_err(not_started)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let name = text.lines().find_map(|line| line.strip_prefix("hostname "));
        name.filter(|_| output.status.success()).map(str::to_owned).ok_or_else(|| {
            Error::invalid(format!(
                "ssh does not accept {self}: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ))
        })
    }

    /// Runs a command line in the remote shell with `input` on standard input, and returns its standard output.
    ///
    /// # Errors
    /// The machine cannot be reached, or the command fails; the error contains its last lines of standard error.
    pub(super) async fn run(&self, command: &str, input: &[u8]) -> Result<String> {
        let mut child = self
            .ssh("-T")
            .arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(not_started)?;
        let missing = || Error::unreachable("ssh has no standard input, output or error");
        let mut stdin = child.stdin.take().ok_or_else(missing)?;
        let mut stdout = child.stdout.take().ok_or_else(missing)?;
        let said = LastWords::of(child.stderr.take().ok_or_else(missing)?);
        let mut answer = Vec::new();
        let feed = async {
            // A command that exits early closes its input; its exit code says more than the broken pipe.
            let _ = stdin.write_all(input).await;
            drop(stdin);
        };
        let ((), read) = tokio::join!(feed, stdout.read_to_end(&mut answer));
        let status = read.and(child.wait().await).map_err(not_started)?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
        Err(self.failed(status.code(), &said.told().await))
    }

    /// Runs a command line with the user's terminal, so that it can ask for a password.
    ///
    /// # Errors
    /// As for [`Target::run`], without the output, which is already on the terminal.
    pub(super) async fn ask(&self, command: &str) -> Result<()> {
        // Standard output is for data.
        let talk = io::stderr();
        let talk = std::os::fd::AsFd::as_fd(&talk).try_clone_to_owned().map_err(not_started)?;
        let status = self.ssh("-t").arg(command).stdout(talk).status().await.map_err(not_started)?;
        if status.success() { Ok(()) } else { Err(self.failed(status.code(), "see above")) }
    }

    /// Exit code 255 is from ssh itself; ssh(1), "Exit status".
    fn failed(&self, code: Option<i32>, said: &str) -> Error {
        if code == Some(255) {
            return Error::unreachable(format!("ssh to {self} failed: {said}"))
                .hint(format!("`ssh {self}` must work on its own; ssh options go after --"));
        }
        Error::unreachable(format!("the command on {self} failed: {said}"))
    }
}

/// Quotes `word` as one word of a shell command line.
pub(super) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn not_started(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => {
            Error::invalid("the program ssh is not installed").hint("apt install openssh-client")
        }
        _ => Error::unreachable(format!("cannot run ssh: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_is_one_word() {
        let word = "it's $HOME \\ \"x\"\n;";
        let output = std::process::Command::new("sh")
            .args(["-c", &format!("printf %s {}", quote(word))])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
    }
}
