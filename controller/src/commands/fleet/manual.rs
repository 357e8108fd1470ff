//! `ctl manual`, `ctl completions`: generated from the clap definition of the command line.

use std::{fs, path::Path};

use clap::CommandFactory;

use crate::{
    cli::Cli,
    error::{Error, Result},
    render::Output,
};

/// Writes `ctl.1`, `ctl-provision.1` and so on into `directory`.
pub(in crate::commands) fn manual(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(Cli::command(), directory)).map_err(
        |error| Error::invalid(format!("cannot write manual pages into {}: {error}", directory.display())),
    )
}

/// Prints the completion script for a shell.
pub(in crate::commands) fn completions(shell: clap_complete::Shell, output: &Output) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ctl", &mut script);
    output.bytes(&script)
}
