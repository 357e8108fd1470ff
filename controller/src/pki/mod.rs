//! The fleet's CA directory: the keys that decide which hosts belong to the fleet and which users may use them.
//!
//! ```text
//! <dir>/                     0700, refused if other users can access it
//!   fleet.json               {id, name}
//!   host-ca.{key,crt}        signs hosts
//!   user-ca.{key,crt}        signs people and CI
//!   enrol.key                every host's enrolment token is derived from it
//!   users/<name>.{key,crt}   one pair for each user; `ctl` connects with one of them
//! ```
//!
//! Only `fleet.json` and the two `.crt` files are required. CI gets a directory with these and one user's pair;
//! commands that need more (enrolling, issuing) name the missing file. Files are written atomically and serial numbers
//! are random, so several users and machines can share the directory.

pub(crate) mod files;
mod issue;
mod users;

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use nix::unistd::{User, geteuid};
use proto::identity::{
    certificate::KeyDigest,
    document::{self, Document},
    names,
    secret::Secret,
};
use rcgen::{Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use self::{
    issue::HostChain,
    users::{Credentials, DEFAULT_LIFETIME},
};
use crate::error::{Error, Result};

/// The hint when the user's role does not allow a command.
pub(crate) const OTHER_ROLE: &str =
    "anyone with user-ca.key can issue a certificate with that role: `ctl user issue NAME --user-role ROLE`";

/// An open CA directory.
#[derive(Clone, Debug)]
pub struct Fleet {
    dir: PathBuf,
    about: About,
    host_ca: CertificateDer<'static>,
    user_ca: CertificateDer<'static>,
    user: Option<String>,
}

/// The content of `fleet.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct About {
    id: String,
    name: String,
}

/// The login name of the user who runs `ctl`, if it is a valid user name; else `admin`.
pub fn login() -> String {
    let login = User::from_uid(geteuid()).ok().flatten().map(|user| user.name);
    login.filter(|name| names::is_user(name)).unwrap_or_else(|| "admin".to_owned())
}

/// A new transaction id for a launch: 16 random bytes in hex.
///
/// # Errors
/// The system's random number generator failed.
pub fn new_tid() -> Result<String> {
    Ok(hex::encode(random::<16>()?))
}

impl Fleet {
    /// Creates the CA directory of a new fleet, atomically. `dir` must be missing or empty.
    ///
    /// # Errors
    /// The directory is in use, or cannot be written.
    pub fn create(dir: &Path, name: &str, now: SystemTime) -> Result<Self> {
        let about = About { id: hex::encode(random::<8>()?), name: name.to_owned() };
        let draft = files::Draft::beside(dir)?;
        for (role, title) in [("host-ca", "hosts"), ("user-ca", "users")] {
            let (key, certificate) = issue::ca(&format!("Magpie fleet {}: CA of {title}", about.id), now)?;
            draft.write(&format!("{role}.key"), key.as_bytes())?;
            draft.write(&format!("{role}.crt"), certificate.as_bytes())?;
        }
        let enrol = Secret::generate().map_err(|_| no_randomness())?;
        draft.write("enrol.key", enrol.to_hex().as_bytes())?;
        let json = serde_json::to_vec_pretty(&about).map_err(|error| Error::invalid(error.to_string()))?;
        draft.write("fleet.json", &json)?;
        draft.publish(dir)?;
        Self::open(dir)
    }

    /// Opens a CA directory.
    ///
    /// # Errors
    /// `dir` is not a CA directory, or other users can access it.
    pub fn open(dir: &Path) -> Result<Self> {
        files::check_private(dir)?;
        let about = dir.join("fleet.json");
        let about: About = serde_json::from_slice(&files::read(&about)?)
            .map_err(|error| Error::invalid(format!("{} is damaged: {error}", about.display())))?;
        if !names::is_label(&about.id) {
            return Err(Error::invalid(format!("{:?} in fleet.json is not a fleet id", about.id)));
        }
        let certificate = |name| certificate(&dir.join(name));
        let (host_ca, user_ca) = (certificate("host-ca.crt")?, certificate("user-ca.crt")?);
        Ok(Self { dir: dir.to_owned(), about, host_ca, user_ca, user: None })
    }

    /// Chooses the user to connect as.
    #[must_use]
    pub fn with_user(mut self, name: &str) -> Self {
        self.user = Some(name.to_owned());
        self
    }

    /// The fleet's random id, which is part of every certificate name.
    pub fn id(&self) -> &str {
        &self.about.id
    }

    /// The display name.
    pub fn name(&self) -> &str {
        &self.about.name
    }

    /// The CA that host certificates are verified against.
    pub fn host_ca(&self) -> &CertificateDer<'static> {
        &self.host_ca
    }

    /// The user CA; before enrolment, hosts know only its digest.
    pub fn user_ca(&self) -> &CertificateDer<'static> {
        &self.user_ca
    }

    /// The enrolment token of a transaction; never stored, never sent.
    ///
    /// # Errors
    /// `enrol.key` is missing or damaged, or `tid` is not a transaction id.
    pub fn token(&self, tid: &str) -> Result<Secret> {
        if !names::is_tid(tid) {
            return Err(Error::invalid(format!("{tid:?} is not an enrolment transaction id")));
        }
        let path = self.dir.join("enrol.key");
        let text = files::read_private(&path)?;
        let key = std::str::from_utf8(&text).ok().and_then(|text| Secret::from_hex(text.trim_end()));
        let key = key.ok_or_else(|| Error::invalid(format!("{} is damaged", path.display())))?;
        Ok(key.token(tid))
    }

    /// The document that lets one host enrol; a secret, valid for [`document::LIFETIME`].
    ///
    /// # Errors
    /// As [`Fleet::token`].
    pub fn enrol_document(&self, tid: &str, now: SystemTime) -> Result<Zeroizing<Vec<u8>>> {
        let user_ca_pin = KeyDigest::of_certificate(&self.user_ca).map_err(Error::invalid)?;
        let expires = now + document::LIFETIME;
        let document = Document { tid: tid.to_owned(), token: self.token(tid)?, user_ca_pin, expires };
        document.to_json().map_err(Error::invalid)
    }

    /// Whether this directory can issue host certificates.
    pub fn signs_hosts(&self) -> bool {
        self.dir.join("host-ca.key").exists()
    }

    /// Loads one of the two CAs for signing; `role` is `host-ca` or `user-ca`.
    fn issuer(&self, role: &str, ca: &CertificateDer<'static>) -> Result<Issuer<'static, KeyPair>> {
        let path = self.dir.join(format!("{role}.key"));
        let damaged = |error| Error::invalid(format!("{} cannot be used: {error}", path.display()));
        let text = files::read_private(&path)?;
        let text = String::from_utf8_lossy(&text);
        let key = KeyPair::from_pem(&text).map_err(damaged)?;
        Issuer::from_ca_cert_der(ca, key).map_err(damaged)
    }
}

fn certificate(path: &Path) -> Result<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(&files::read(path)?)
        .map_err(|error| Error::invalid(format!("{} is not a certificate: {error}", path.display())))
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| no_randomness())?;
    Ok(bytes)
}

fn no_randomness() -> Error {
    Error::invalid("the system's random number generator failed")
}
