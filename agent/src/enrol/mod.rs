//! How a fresh host becomes a member of its fleet: the agent's end of `enrol/1`.
//!
//! A host without identity opens no port until a provider has left an enrol document. Then it makes a key,
//! says on the console which, and lets a controller that both shows a certificate of the pinned CA and
//! knows the document's token give it an identity. The identity appears by one rename; from then on no
//! enrolment is possible, and the document is gone.
//!
//! - [`console`]: what is said where a provider can read it,
//! - [`document`]: waiting for a document that is good,
//! - [`metadata`]: what an instance of EC2 is told, and which one it is,
//! - [`candidate`]: the key before it has a certificate,
//! - [`exchange`]: the messages,
//! - [`identity`]: what is stored, and the machine that it is bound to,
//! - [`renewal`]: a new certificate for it before the present one ends.

pub mod candidate;
pub mod console;
pub mod document;
pub mod exchange;
pub mod identity;
pub mod machine;
pub mod metadata;
pub mod renewal;

use std::{io, path::PathBuf};

use proto::identity::{
    certificate::CertificateError, document::DocumentError, enrol::SealError, frame::FrameError,
    userdata::UserDataError,
};

/// Why enrolment, or reading its result, failed.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The stored identity cannot be used.
    #[error("the identity in {} cannot be used: {reason}; remove it to enrol this host anew", path.display())]
    Identity {
        /// The directory it is in.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The identity is bound to an instance, and nothing says which one this is.
    #[error(
        "this host's identity belongs to instance {instance}, and without a metadata service (--metadata, \
         MAGPIE_METADATA) nothing says whether that is this one"
    )]
    Unproved {
        /// The instance that the identity is bound to.
        instance: String,
    },
    /// The enrol document is of no use, or not any more.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The instance's user-data is malformed.
    #[error(transparent)]
    UserData(#[from] UserDataError),
    /// The enrol document can be read by others than root.
    #[error("{} is open to others (mode {mode:04o}); it must be 0600", path.display())]
    Exposed {
        /// The document.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The connection to the controller failed.
    #[error("the controller went away: {0}")]
    Connection(#[from] io::Error),
    /// The controller could not prove that it knows the token.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A message was too long or not the one that was due.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The certificate is not one for this host.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// What the controller grants does not fit.
    #[error("the controller's grant is refused: {0}")]
    Grant(&'static str),
    /// TLS or X.509 could not do its part.
    #[error("cryptography failed: {0}")]
    Crypto(String),
}

impl EnrolError {
    /// A failed operation on `path`.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// A failed operation of a cryptographic library.
    pub(crate) fn crypto(error: impl std::fmt::Display) -> Self {
        Self::Crypto(error.to_string())
    }
}
