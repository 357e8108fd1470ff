//! The terminal: in raw mode while a [`Screen`] exists, restored in any case.

use std::{
    env,
    io::{self, IsTerminal},
};

use ratatui::DefaultTerminal;

use super::{Look, draw};
use crate::{
    error::{Error, Result},
    record::top::State,
};

/// The terminal on stdout, in raw mode and on its alternate screen. A panic restores it too (`ratatui::try_init`).
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Checks that standard output is a terminal.
    ///
    /// # Errors
    /// Standard output is not a terminal.
    pub(crate) fn check() -> Result<()> {
        if io::stdout().is_terminal() {
            return Ok(());
        }
        Err(Error::invalid("standard output is not a terminal")
            .hint("`ctl cpu-log` prints the record to files and pipes"))
    }

    /// Switches the terminal to raw mode and its alternate screen.
    ///
    /// # Errors
    /// The terminal cannot be set up.
    pub(crate) fn open() -> Result<Self> {
        let terminal = ratatui::try_init().map_err(|error| {
            // Setup may have been partial.
            let _ = ratatui::try_restore();
            failed(&error)
        })?;
        Ok(Self { terminal })
    }

    /// Draws a state.
    ///
    /// # Errors
    /// The terminal cannot be written to.
    pub(crate) fn show(&mut self, state: &State, look: &Look) -> Result<()> {
        self.terminal.draw(|frame| draw(frame, state, look)).map(drop).map_err(|error| failed(&error))
    }

    /// Whether to use colours (no-color.org).
    pub(crate) fn colour() -> bool {
        env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // If this fails, the terminal is gone.
        let _ = ratatui::try_restore();
    }
}

fn failed(error: &io::Error) -> Error {
    Error::invalid(format!("cannot draw on the terminal: {error}"))
}
