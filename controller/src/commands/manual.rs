//! `ctl manual`: a manual page a verb, from the definition that parses the command line.

use std::{fs, path::Path};

use clap::CommandFactory;

use crate::{
    cli::Cli,
    error::{Error, Result},
};

/// Writes `ctl.1`, `ctl-provision.1` and so on into `directory`.
pub(super) fn manual(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(Cli::command(), directory)).map_err(
        |error| Error::invalid(format!("cannot write manual pages into {}: {error}", directory.display())),
    )
}
