//! Errors of system calls as messages for the user.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// Adds to an error what was being done.
pub(super) trait Doing<T> {
    /// Turns an error into `what: cause`; `what` is a sentence without a full stop.
    fn doing<S: Display>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Display> Doing<T> for std::result::Result<T, E> {
    fn doing<S: Display>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|cause| Error::unreachable(format!("{}: {cause}", what())))
    }
}

/// An [`Error`] in serialised form, to send to another process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    invalid: bool,
    message: String,
    hints: Vec<String>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            invalid: error.kind() == Kind::Invalid,
            message: error.to_string(),
            hints: error.hints().to_vec(),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let kind = if failure.invalid { Kind::Invalid } else { Kind::Unreachable };
        failure.hints.into_iter().fold(Self::new(kind, failure.message), Self::hint)
    }
}
