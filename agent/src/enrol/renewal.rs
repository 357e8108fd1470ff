//! The certificate that a host shows, and how it gets another before it ends: the key stays, so that one file is all that
//! changes, by one rename, and claims and runs are not touched.

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

/// What new connections are shown.
#[derive(Debug)]
pub struct Shown {
    host_id: String,
    fleet_id: String,
    key: KeyDigest,
    file: PathBuf,
    current: RwLock<Current>,
    /// Held while one is put in the place of another.
    renewing: Mutex<()>,
}

#[derive(Clone, Debug)]
struct Current {
    certified: Arc<CertifiedKey>,
    until: SystemTime,
}

impl Shown {
    /// What is stored now.
    ///
    /// # Errors
    /// Key or certificate cannot be used.
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

    /// When it ends.
    pub fn until(&self) -> SystemTime {
        self.current().until
    }

    /// Shows this certificate from now on, if it lasts longer than the present one; returns when the one that is shown
    /// ends. Blocks on the disk, and is durable on return.
    ///
    /// # Errors
    /// It is not one for this host and its key by the CA that it was enrolled with, or cannot be stored: then nothing has
    /// changed.
    pub fn renew(&self, leaf: &[u8], now: SystemTime) -> Result<SystemTime, EnrolError> {
        let _one = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let Current { certified, until } = self.current();
        let new = HostCertificate::read(leaf, &self.host_id, &self.fleet_id)?;
        if new.key != self.key {
            return Err(EnrolError::Grant("the certificate is for another key"));
        }
        let [_, host_ca] = &certified.cert[..] else {
            return Err(EnrolError::Grant("this host does not know its CA"));
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
