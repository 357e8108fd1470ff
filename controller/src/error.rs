//! The error type shown to users: a sentence, hints, and an exit code. `main` prints it once.

use std::fmt;

/// The kind of failure; decides the exit code (documented in `ctl --help`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A run failed on at least one host.
    RunFailed,
    /// Usage, configuration or bundle invalid, or the user's role does not allow the command: nothing was changed.
    Invalid,
    /// A host could not be reached or verified.
    Unreachable,
    /// Another run is active, or the host belongs to someone else; the message names the holder.
    Busy,
    /// Cancelled or interrupted.
    Interrupted,
    /// `--noop` found pending changes.
    Pending,
    /// The user detached from runs that continue.
    Detached,
    /// The command of `ctl run` exited with this code, never 0. Its output was already shown.
    Command(u8),
}

impl Kind {
    /// The process exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::RunFailed => 1,
            Self::Invalid => 2,
            Self::Unreachable => 3,
            Self::Busy => 4,
            Self::Interrupted | Self::Detached => 5,
            Self::Pending => 10,
            Self::Command(code) => code,
        }
    }
}

/// `error: <what failed>: <cause>`, then hints.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    hints: Vec<String>,
    absent: bool,
    refusal: bool,
}

/// Shorthand for this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind`; `message` is a sentence without a full stop, starting in lower case.
    pub fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string(), hints: Vec::new(), absent: false, refusal: false }
    }

    /// An error of [`Kind::Invalid`].
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// An error of [`Kind::Unreachable`].
    pub fn unreachable(message: impl fmt::Display) -> Self {
        Self::new(Kind::Unreachable, message)
    }

    /// No agent answers (yet): a retry may succeed.
    pub fn absent(message: impl fmt::Display) -> Self {
        Self { absent: true, ..Self::unreachable(message) }
    }

    /// Whether the error was created by [`Error::absent`].
    pub fn is_absent(&self) -> bool {
        self.absent
    }

    /// A running host rejected our certificate.
    pub fn refused(message: impl fmt::Display) -> Self {
        Self { refusal: true, ..Self::unreachable(message) }
    }

    /// Whether the error was created by [`Error::refused`].
    pub fn is_refusal(&self) -> bool {
        self.refusal
    }

    /// Adds a hint: what the user can do about the error.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hints.push(hint.to_string());
        self
    }

    /// Prefixes the message with what was being done: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// [`Error::context`] with a host's name, unless the message begins with it.
    #[must_use]
    pub fn context_once(self, name: &str) -> Self {
        if self.message.starts_with(name) { self } else { self.context(name) }
    }

    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The hints, in order.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
