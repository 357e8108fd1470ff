//! The host's key before it has a certificate. The key is created once and kept across crashes, so that the digest on
//! the console stays valid.

use std::{
    fs::{self, DirBuilder},
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use proto::identity::certificate::KeyDigest;
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyPair, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::EnrolError;
use crate::{durable, paths::Paths};

/// Name of the key file in the state directory; PEM.
pub(super) const KEY_FILE: &str = "host.key";

/// A key without a certificate.
pub struct Candidate {
    key: KeyPair,
}

impl Candidate {
    /// Loads the key from `state.new`, or creates it. Durable on return.
    ///
    /// # Errors
    /// If the directory or key cannot be read or written.
    pub fn prepare(paths: &Paths) -> Result<Self, EnrolError> {
        let dir = paths.state_new();
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(EnrolError::file(dir)(error));
            }
            _ => (),
        }
        let path = dir.join(KEY_FILE);
        let pem = match fs::read_to_string(&path) {
            Ok(pem) => Zeroizing::new(pem),
            Err(error) if error.kind() == ErrorKind::NotFound => create_key(&path)?,
            Err(error) => return Err(EnrolError::file(path)(error)),
        };
        let key = KeyPair::from_pem(&pem).map_err(EnrolError::crypto)?;
        Ok(Self { key })
    }

    /// The key's digest, as printed on the console and bound into M1.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::of(&self.key.subject_public_key_info())
    }

    /// A PKCS#10 request without a name; DER.
    ///
    /// # Errors
    /// If the request cannot be signed.
    pub fn request(&self) -> Result<Vec<u8>, EnrolError> {
        let request = nameless().serialize_request(&self.key).map_err(EnrolError::crypto)?;
        Ok(request.der().to_vec())
    }

    /// A self-signed certificate that states only the key, for TLS before enrolment.
    ///
    /// # Errors
    /// If the certificate cannot be signed.
    pub fn certificate(&self) -> Result<CertificateDer<'static>, EnrolError> {
        let mut params = nameless();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok(params.self_signed(&self.key).map_err(EnrolError::crypto)?.der().clone())
    }

    /// The private key, for TLS.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

fn nameless() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
}

fn create_key(path: &Path) -> Result<Zeroizing<String>, EnrolError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(EnrolError::crypto)?;
    let pem = Zeroizing::new(key.serialize_pem());
    write(path, pem.as_bytes())?;
    Ok(pem)
}

/// See [`durable::write()`].
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), EnrolError> {
    durable::write(path, bytes).map_err(EnrolError::file(path))
}

/// See [`durable::sync_parent`].
pub(super) fn sync_parent(path: &Path) -> Result<(), EnrolError> {
    durable::sync_parent(path).map_err(EnrolError::file(path))
}
