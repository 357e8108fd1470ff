//! The terminal itself: taken over for as long as a [`Screen`] lives, given back whatever happens.

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

/// The terminal on stdout, in raw mode and on its alternate screen. A panic gives it back too (`ratatui::try_init`).
#[derive(Debug)]
pub struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Whether there is something to draw on.
    ///
    /// # Errors
    /// Standard output is no terminal.
    pub fn check() -> Result<()> {
        if io::stdout().is_terminal() {
            return Ok(());
        }
        Err(Error::invalid("there is no terminal on standard output to draw on")
            .hint("`ctl cpu-log` prints the record to files and pipes"))
    }

    /// Takes the terminal over.
    ///
    /// # Errors
    /// It cannot be set up.
    pub fn open() -> Result<Self> {
        let terminal = ratatui::try_init().map_err(|error| {
            // Half of it may have been done.
            let _ = ratatui::try_restore();
            failed(&error)
        })?;
        Ok(Self { terminal })
    }

    /// Shows a state.
    ///
    /// # Errors
    /// The terminal cannot be written to.
    pub fn show(&mut self, state: &State, look: &Look) -> Result<()> {
        self.terminal.draw(|frame| draw(frame, state, look)).map(drop).map_err(|error| failed(&error))
    }

    /// Whether colours are wanted (no-color.org).
    pub fn colour() -> bool {
        env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Where this fails the terminal is gone.
        let _ = ratatui::try_restore();
    }
}

fn failed(error: &io::Error) -> Error {
    Error::invalid(format!("cannot draw on the terminal: {error}"))
}
