//! Enrolment: how a fresh host joins its fleet. The agent's side of `enrol/1`.
//!
//! A host without an identity opens no port until a provider has written an enrol document. Then it creates a key and
//! prints the key's digest on the console. A controller may give it an identity if it has a certificate of the pinned
//! CA and knows the document's token. The identity appears by one rename; after that the host cannot be enrolled again,
//! and the document is removed.
//!
//! - [`console`]: messages that a provider can read,
//! - [`document`]: waiting for a valid document,
//! - [`metadata`]: id and user-data of an EC2 instance,
//! - [`candidate`]: the key before it has a certificate,
//! - [`exchange`]: the messages,
//! - [`identity`]: the stored identity and its binding to a machine,
//! - [`renewal`]: replacing the certificate before it expires.

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

/// Why enrolment failed, or why its result cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The error of the file operation.
        source: io::Error,
    },
    /// The stored identity cannot be used.
    #[error("the identity in {} cannot be used: {reason}; remove it to enrol this host again", path.display())]
    Identity {
        /// The identity's directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The identity is bound to an instance, and no metadata service is configured to compare with.
    #[error(
        "this host's identity belongs to instance {instance}, and without a metadata service (--metadata, \
         MAGPIE_METADATA) the agent cannot check which instance this is"
    )]
    Unproved {
        /// The instance that the identity is bound to.
        instance: String,
    },
    /// The enrol document is invalid or expired.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The instance's user-data is malformed.
    #[error(transparent)]
    UserData(#[from] UserDataError),
    /// Users other than root can access the enrol document.
    #[error("{} is open to others (mode {mode:04o}); it must be 0600", path.display())]
    Exposed {
        /// The document.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The connection to the controller failed.
    #[error("lost the connection to the controller: {0}")]
    Connection(#[from] io::Error),
    /// The controller could not prove that it knows the token.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A message was too long or unexpected.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The certificate is not valid for this host.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The controller's grant does not match.
    #[error("refused the controller's grant: {0}")]
    Grant(&'static str),
    /// A TLS or X.509 operation failed.
    #[error("cryptography failed: {0}")]
    Crypto(String),
}

impl EnrolError {
    /// Converts the error of a file operation on `path`.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// Converts the error of a cryptographic library.
    pub(crate) fn crypto(error: impl std::fmt::Display) -> Self {
        Self::Crypto(error.to_string())
    }
}
