//! The host's current certificate, and its renewal before it expires. The key stays the same, so renewal replaces only
//! one file, by one rename, and does not affect claims and runs.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};

use proto::identity::{
    certificate::{HostCertificate, KeyDigest},
    names, tls,
};
use rustls::{
    pki_types::CertificateDer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{
    EnrolError,
    candidate::write,
    exchange::verify,
    identity::{HOST_FILE, Identity},
};
use crate::paths::Paths;

/// The certificate that new connections see.
#[derive(Debug)]
pub struct Shown {
    host_id: String,
    fleet_id: String,
    key: KeyDigest,
    file: PathBuf,
    current: RwLock<Current>,
    /// Held while a certificate is replaced.
    renewing: Mutex<()>,
}

#[derive(Clone, Debug)]
struct Current {
    certified: Arc<CertifiedKey>,
    until: SystemTime,
}

impl Shown {
    /// Uses the stored certificate.
    ///
    /// # Errors
    /// If the key or certificate cannot be used.
    pub fn new(identity: &Identity, paths: &Paths) -> Result<Self, EnrolError> {
        let Identity { host_id, fleet_id, chain, key, .. } = identity;
        let leaf = HostCertificate::read(&chain[0], host_id, fleet_id)?;
        let certified = CertifiedKey::from_der(chain.clone(), key.clone_key(), &tls::provider());
        let certified = Arc::new(certified.map_err(EnrolError::crypto)?);
        Ok(Self {
            host_id: host_id.clone(),
            fleet_id: fleet_id.clone(),
            key: leaf.key,
            file: paths.state().join(HOST_FILE),
            current: RwLock::new(Current { certified, until: leaf.not_after }),
            renewing: Mutex::default(),
        })
    }

    /// When the certificate expires.
    pub fn until(&self) -> SystemTime {
        self.current().until
    }

    /// Uses this certificate from now on if it expires later than the current one; returns the expiry of the one in
    /// use. Blocks on the disk; durable on return.
    ///
    /// # Errors
    /// If the certificate is not for this host and its key, is not from the CA that enrolled the host, or cannot be
    /// stored; then nothing has changed.
    pub fn renew(&self, leaf: &[u8], now: SystemTime) -> Result<SystemTime, EnrolError> {
        let _one = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let Current { certified, until } = self.current();
        let new = HostCertificate::read(leaf, &self.host_id, &self.fleet_id)?;
        if new.key != self.key {
            return Err(EnrolError::Grant("the certificate is for a different key"));
        }
        let [_, host_ca] = &certified.cert[..] else {
            return Err(EnrolError::Grant("this host has no copy of its CA"));
        };
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = since_epoch.as_millis().try_into().unwrap_or(i64::MAX);
        verify(leaf, host_ca, &names::host(&self.host_id, &self.fleet_id), now_ms)?;
        if new.not_after <= until {
            return Ok(until);
        }
        write(&self.file, leaf)?;
        let chain = vec![CertificateDer::from(leaf.to_vec()), host_ca.clone()];
        let certified = Arc::new(CertifiedKey::new(chain, Arc::clone(&certified.key)));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) =
            Current { certified, until: new.not_after };
        Ok(new.not_after)
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().certified)
    }
}
