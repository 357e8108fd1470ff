//! The programs installed in `/usr/lib/magpie` on every host.

use std::{fs, path::Path};

use crate::error::{Error, Result};

/// Contents of the program files.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) agent: Vec<u8>,
    /// The program that `agent record` executes.
    pub(super) recorder: Vec<u8>,
}

impl Programs {
    /// Reads the agent, and the recorder from the same directory.
    pub(super) fn read(agent: &Path) -> Result<Self> {
        let program = |what: &str, path: &Path| {
            fs::read(path).map_err(|error| {
                Error::invalid(format!("cannot read the {what} {}: {error}", path.display())).hint(
                    "build it with `cargo build`, or set `agent = …` in [local] of magpie.toml; the recorder \
                     must be in the same directory",
                )
            })
        };
        Ok(Self {
            agent: program("agent", agent)?,
            recorder: program("recorder", &agent.with_file_name("recorder"))?,
        })
    }

    /// Total size in bytes.
    pub(super) fn size(&self) -> usize {
        self.agent.len() + self.recorder.len()
    }
}
