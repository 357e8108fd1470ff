//! The one error that reaches the user: a sentence, hints, and an exit code. Printed once, by `main`.

use std::fmt;

/// What kind of failure it was; decides the exit code (documented in `ctl --help`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A run failed on some host.
    RunFailed,
    /// Usage, configuration or bundle invalid, or the user's role does not allow it: nothing was touched.
    Invalid,
    /// A host could not be reached or proved.
    Unreachable,
    /// Something else is under way, or somebody else has the host; the message names the holder.
    Busy,
    /// Cancelled or interrupted.
    Interrupted,
    /// `--noop` found pending changes.
    Pending,
    /// The user let go of runs that go on.
    Detached,
    /// The command of `ctl run` ended with this exit code, never 0. What there is to say of it was said.
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

    /// Usage, configuration or bundle invalid.
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// A host could not be reached or proved.
    pub fn unreachable(message: impl fmt::Display) -> Self {
        Self::new(Kind::Unreachable, message)
    }

    /// Nobody answers there, or nobody yet: the same may succeed a moment later.
    pub fn absent(message: impl fmt::Display) -> Self {
        Self { absent: true, ..Self::unreachable(message) }
    }

    /// Whether it was made by [`Error::absent`].
    pub fn is_absent(&self) -> bool {
        self.absent
    }

    /// A host that runs does not accept who we say we are.
    pub fn refused(message: impl fmt::Display) -> Self {
        Self { refusal: true, ..Self::unreachable(message) }
    }

    /// Whether it was made by [`Error::refused`].
    pub fn is_refusal(&self) -> bool {
        self.refusal
    }

    /// Adds a hint: what the user can do about it.
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

    /// What kind of failure it was.
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
