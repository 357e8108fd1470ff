//! External programs; the error for a missing program names its package.

use std::{
    io::{self, Write},
    process::{Command, Output, Stdio},
};

use crate::{
    error::{Error, Result},
    provider::local::failure::Doing,
};

/// A program and its Debian package.
#[derive(Clone, Copy)]
pub(crate) struct Tool {
    name: &'static str,
    package: &'static str,
}

pub(crate) const IP: Tool = Tool { name: "ip", package: "iproute2" };
pub(crate) const NFT: Tool = Tool { name: "nft", package: "nftables" };
pub(crate) const SLIRP: Tool = Tool { name: "slirp4netns", package: "slirp4netns" };
pub(crate) const MMDEBSTRAP: Tool = Tool { name: "mmdebstrap", package: "mmdebstrap" };
pub(super) const TAR: Tool = Tool { name: "tar", package: "tar" };
pub(crate) const CP: Tool = Tool { name: "cp", package: "coreutils" };
pub(crate) const KILL: Tool = Tool { name: "kill", package: "procps" };
pub(super) const NEWUIDMAP: Tool = Tool { name: "newuidmap", package: "uidmap" };
pub(super) const NEWGIDMAP: Tool = Tool { name: "newgidmap", package: "uidmap" };

/// PATH if the user has none, as set by Debian's login(1).
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Adds the matching `sbin` after each `bin` directory: ordinary users' PATH lacks these, but `nft` is in one.
fn with_sbin(path: &str) -> String {
    let directories: Vec<String> = path
        .split(':')
        .flat_map(|directory| {
            let beside = directory.trim_end_matches('/').strip_suffix("/bin");
            [Some(directory.to_owned()), beside.map(|parent| format!("{parent}/sbin"))]
        })
        .flatten()
        .collect();
    directories.join(":")
}

impl Tool {
    /// A command with English output, and with the `sbin` directories in its PATH.
    pub(crate) fn command(self) -> Command {
        let path = std::env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.to_owned());
        let mut command = Command::new(self.name);
        command.env("PATH", with_sbin(&path)).env("LC_ALL", "C");
        command
    }

    /// The error if the program cannot be started.
    pub(crate) fn not_started(self, error: &io::Error) -> Error {
        let Self { name, package } = self;
        match error.kind() {
            io::ErrorKind::NotFound => Error::invalid(format!("the program {name} is not installed"))
                .hint(format!("apt install {package}")),
            _ => Error::unreachable(format!("cannot start {name}: {error}")),
        }
    }

    /// Runs the program with `arguments` and `input`. A non-zero exit code is an error with its standard error.
    pub(crate) fn run(self, arguments: &[&str], input: &str) -> Result<()> {
        let name = self.name;
        let mut child = self
            .command()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| self.not_started(&error))?;
        // A tool that exits early closes its input; its exit code says more than the broken pipe.
        drop(child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output().doing(|| format!("cannot wait for {name}"))?;
        self.check(&output)
    }

    /// Turns a non-zero exit code into an error.
    pub(crate) fn check(self, output: &Output) -> Result<()> {
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Error::unreachable(format!("{} failed ({}): {}", self.name, output.status, said.trim())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn administrators_directories_are_searched_too() {
        assert_eq!(
            with_sbin("/home/me/tools:/usr/bin:/bin/"),
            "/home/me/tools:/usr/bin:/usr/sbin:/bin/:/sbin"
        );
        assert_eq!(with_sbin(""), "");
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let error = Tool { name: "no-such-program", package: "some-package" }.run(&[], "").unwrap_err();
        assert_eq!(error.to_string(), "the program no-such-program is not installed");
        assert_eq!(error.hints(), ["apt install some-package"]);
    }
}
