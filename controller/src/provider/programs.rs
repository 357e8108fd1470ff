//! The programs that every host has, as they are installed in `/usr/lib/magpie`.

use std::{fs, path::Path};

use crate::error::{Error, Result};

/// Their files' content.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) agent: Vec<u8>,
    /// What `agent record` becomes.
    pub(super) recorder: Vec<u8>,
}

impl Programs {
    /// Reads the agent, and the recorder beside it.
    pub(super) fn read(agent: &Path) -> Result<Self> {
        let program = |what: &str, path: &Path| {
            fs::read(path).map_err(|error| {
                Error::invalid(format!("cannot read the {what} {}: {error}", path.display())).hint(
                    "build it (`cargo build`), or say where the agent is, with the recorder beside it: \
                     `agent = …` in [local] of magpie.toml",
                )
            })
        };
        Ok(Self {
            agent: program("agent", agent)?,
            recorder: program("recorder", &agent.with_file_name("recorder"))?,
        })
    }

    /// Bytes that they take.
    pub(super) fn size(&self) -> usize {
        self.agent.len() + self.recorder.len()
    }
}
