//! The stored identity of an enrolled host, and the one rename that commits it.

use std::{
    fs::{self, DirBuilder},
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    time::{SystemTime, UNIX_EPOCH},
};

use proto::{identity::certificate::HostCertificate, pb::EnrolGrant};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};

use super::{
    EnrolError,
    candidate::{KEY_FILE, sync_parent, write},
    machine::Binding,
};
use crate::paths::Paths;

const ABOUT_FILE: &str = "identity.json";
/// Name of the certificate file in the state directory; DER.
pub(super) const HOST_FILE: &str = "host.der";
const HOST_CA_FILE: &str = "host-ca.der";
const USER_CA_FILE: &str = "user-ca.der";

/// This host's identity, and the CA whose users it accepts.
#[derive(Debug)]
pub struct Identity {
    /// The host id in the certificate's name.
    pub host_id: String,
    /// The id of the host's fleet.
    pub fleet_id: String,
    /// The host's certificate, followed by the CA's.
    pub chain: Vec<CertificateDer<'static>>,
    /// The host's key.
    pub key: PrivateKeyDer<'static>,
    /// The only CA for users.
    pub user_ca: CertificateDer<'static>,
}

/// The content of `identity.json`.
#[derive(Serialize, Deserialize)]
struct About {
    v: u32,
    host_id: String,
    fleet_id: String,
    binding: Binding,
}

/// What [`load`] found in the state directory.
#[derive(Debug)]
pub enum Found {
    /// The host is enrolled.
    Identity(Identity),
    /// The host is not enrolled.
    Nothing,
    /// The identity belonged to another machine, and is now in quarantine.
    Clone,
}

impl Identity {
    /// Reads the identity if it belongs to `machine`; moves any other one to quarantine.
    ///
    /// # Errors
    /// If the identity exists but cannot be used: it is never replaced silently.
    pub fn load(paths: &Paths, machine: &Binding, now: SystemTime) -> Result<Found, EnrolError> {
        let dir = paths.state();
        let path = dir.join(ABOUT_FILE);
        let about = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound && !dir.exists() => return Ok(Found::Nothing),
            Err(error) => return Err(EnrolError::file(path)(error)),
        };
        let unusable = |reason: String| EnrolError::Identity { path: dir.clone(), reason };
        let about: About = serde_json::from_slice(&about).map_err(|error| unusable(error.to_string()))?;
        if let (Some(instance), None) = (&about.binding.instance_id, &machine.instance_id) {
            return Err(EnrolError::Unproved { instance: instance.clone() });
        }
        if !about.binding.fits(machine) {
            quarantine(paths, now)?;
            return Ok(Found::Clone);
        }
        let certificate = |name| {
            fs::read(dir.join(name)).map(CertificateDer::from).map_err(EnrolError::file(dir.join(name)))
        };
        let chain = vec![certificate(HOST_FILE)?, certificate(HOST_CA_FILE)?];
        HostCertificate::read(&chain[0], &about.host_id, &about.fleet_id)
            .map_err(|error| unusable(error.to_string()))?;
        let user_ca = certificate(USER_CA_FILE)?;
        let key =
            PrivateKeyDer::from_pem_file(dir.join(KEY_FILE)).map_err(|error| unusable(error.to_string()))?;
        let About { host_id, fleet_id, .. } = about;
        Ok(Found::Identity(Self { host_id, fleet_id, chain, key, user_ca }))
    }

    /// Stores the grant beside the key in `state.new` and makes it this host's identity by one rename. The caller
    /// must have checked the grant. Durable on return.
    ///
    /// # Errors
    /// If anything cannot be written; then nothing has changed.
    pub fn commit(paths: &Paths, grant: &EnrolGrant, machine: &Binding) -> Result<(), EnrolError> {
        let [host, host_ca] = grant.certificates.as_slice() else {
            return Err(EnrolError::Grant("it does not have exactly two certificates"));
        };
        let about = About {
            v: 1,
            host_id: grant.host_id.clone(),
            fleet_id: grant.fleet_id.clone(),
            binding: machine.clone(),
        };
        let dir = paths.state_new();
        let json = serde_json::to_vec_pretty(&about).map_err(EnrolError::crypto)?;
        for (name, certificate) in
            [(HOST_FILE, host), (HOST_CA_FILE, host_ca), (USER_CA_FILE, &grant.user_ca)]
        {
            write(&dir.join(name), certificate)?;
        }
        write(&dir.join(ABOUT_FILE), &json)?;
        fs::rename(&dir, paths.state()).map_err(EnrolError::file(paths.state()))?;
        sync_parent(&paths.state())?;
        forget_document(paths);
        Ok(())
    }
}

/// Removes the document: it holds the token and is no longer needed.
fn forget_document(paths: &Paths) {
    let path = paths.enrol_document();
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!("cannot remove {}: {error}", path.display());
        }
        _ => (),
    }
}

fn quarantine(paths: &Paths, now: SystemTime) -> Result<(), EnrolError> {
    let dir = paths.quarantine();
    match DirBuilder::new().mode(0o700).create(&dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(EnrolError::file(dir)(error)),
        _ => (),
    }
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let place = dir.join(seconds.to_string());
    fs::rename(paths.state(), &place).map_err(EnrolError::file(&place))?;
    sync_parent(&place)?;
    sync_parent(&paths.state())
}
