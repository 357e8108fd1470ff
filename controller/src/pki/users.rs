//! The fleet's users: issuing their certificates, and choosing the user to connect as.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use proto::identity::{Role, User, certificate::UserCertificate, names, tls};
use rcgen::KeyPair;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
};

use super::{Fleet, certificate, files, issue};
use crate::error::{Error, Result};

/// Default lifetime of a user's certificate.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// A user's certificate and key, as used for TLS.
#[derive(Debug)]
pub struct Credentials {
    /// Name and role, as in the certificate.
    pub user: User,
    /// When the certificate expires.
    pub not_after: SystemTime,
    /// The leaf, then the user CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

impl Fleet {
    /// Issues a certificate for a user. The key is created the first time and then kept; a refused request creates no
    /// key.
    ///
    /// # Errors
    /// The name or lifetime is not allowed, or this directory cannot sign users.
    pub fn issue_user(
        &self,
        name: &str,
        role: Role,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Credentials> {
        if !names::is_user(name) {
            return Err(Error::invalid(format!("{name:?} is not a valid user name"))
                .hint("use up to 64 letters, digits and . _ @ -, not beginning with . or -"));
        }
        let issuer = self.user_issuer(role, lifetime)?;
        files::directory(&self.dir.join("users"))?;
        let path = self.user_file(name, "key");
        if !path.exists() {
            files::create(&path, issue::new_key()?.serialize_pem().as_bytes())?;
        }
        let text = files::read_private(&path)?;
        let key = KeyPair::from_pem(&String::from_utf8_lossy(&text))
            .map_err(|error| Error::invalid(format!("{} cannot be used: {error}", path.display())))?;
        let user = User { name: name.to_owned(), role };
        let certificate = self.sign_user(&issuer, &key, &user, lifetime, now)?;
        files::replace(&self.user_file(name, "crt"), certificate.as_bytes())?;
        self.read_user(name)
    }

    /// The user that `ctl` connects as: the one chosen with [`Fleet::with_user`], or the only one, or the one with the
    /// login name. If the certificate has expired or is about to, and `user-ca.key` is here, it is renewed with the
    /// same role.
    ///
    /// # Errors
    /// There is no such user, or the certificate has expired and cannot be renewed here.
    pub fn current_user(&self, now: SystemTime) -> Result<Credentials> {
        let credentials = self.read_user(&self.user_name()?)?;
        if now + issue::MARGIN < credentials.not_after {
            return Ok(credentials);
        }
        if self.dir.join("user-ca.key").exists() {
            return self.issue_user(&credentials.user.name, credentials.user.role, DEFAULT_LIFETIME, now);
        }
        let User { name, role } = credentials.user;
        let end = Timestamp::try_from(credentials.not_after).map_err(Error::invalid)?;
        let verb = if credentials.not_after <= now { "expired" } else { "is about to expire" };
        Err(Error::invalid(format!("the certificate of {name} ({role}) {verb} at {end}")).hint(format!(
            "anyone with user-ca.key of fleet {} ({}) can renew it: `ctl user issue {name} --user-role {role}`",
            self.name(),
            self.id()
        )))
    }

    /// [`Fleet::current_user`], if their role is at least `least`; `verb` is the command, for the error message. Hosts
    /// check this themselves; this check is for commands where no host can.
    ///
    /// # Errors
    /// As [`Fleet::current_user`], or the certificate is not valid now, or its role is not sufficient.
    pub fn user_with(&self, least: Role, verb: &str, now: SystemTime) -> Result<Credentials> {
        let credentials = self.signed_user(now)?;
        let User { name, role } = &credentials.user;
        if *role >= least {
            return Ok(credentials);
        }
        Err(Error::invalid(format!(
            "{name} ({role}) may not run `ctl {verb}`: that needs the user role {least}"
        ))
        .hint(super::OTHER_ROLE))
    }

    /// [`Fleet::current_user`], if they may enrol hosts.
    ///
    /// # Errors
    /// As [`Fleet::user_with`].
    pub fn enroller(&self, now: SystemTime) -> Result<Credentials> {
        let credentials = self.signed_user(now)?;
        let User { name, role } = &credentials.user;
        if role.may_enrol() {
            return Ok(credentials);
        }
        Err(Error::invalid(format!(
            "{name} ({role}) may not enrol hosts: that needs the user role {} or {}",
            Role::Admin,
            Role::Enroller
        ))
        .hint(super::OTHER_ROLE))
    }

    /// [`Fleet::current_user`], with the chain and its dates verified as a host would.
    fn signed_user(&self, now: SystemTime) -> Result<Credentials> {
        let credentials = self.current_user(now)?;
        let unusable = |error: &dyn std::fmt::Display| {
            let name = &credentials.user.name;
            Error::invalid(format!(
                "the certificate of {name} is not valid in fleet {}: {error}",
                self.name()
            ))
        };
        let mut roots = RootCertStore::empty();
        roots.add(self.user_ca().clone()).map_err(|error| unusable(&error))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider())
            .build()
            .map_err(|error| unusable(&error))?;
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let leaf = &credentials.chain[0];
        verifier
            .verify_client_cert(leaf, &[], UnixTime::since_unix_epoch(since_1970))
            .map_err(|error| unusable(&error))?;
        Ok(credentials)
    }

    /// Checks that the chosen user exists.
    ///
    /// # Errors
    /// This directory has no certificate for the user.
    pub fn check_chosen(&self) -> Result<()> {
        match &self.user {
            Some(name) => self.check_known(name),
            None => Ok(()),
        }
    }

    fn check_known(&self, name: &str) -> Result<()> {
        let mut names = self.user_names();
        if names.iter().any(|known| known == name) {
            return Ok(());
        }
        names.sort();
        let error =
            Error::invalid(format!("there is no user {name:?} in {}", self.dir.join("users").display()));
        Err(if names.is_empty() {
            error.hint(format!("`ctl user issue {name}` creates it, in a CA directory with user-ca.key"))
        } else {
            error.hint(format!("known users: {}", names.join(", ")))
        })
    }

    fn user_name(&self) -> Result<String> {
        if let Some(name) = &self.user {
            return Ok(name.clone());
        }
        let mut names = self.user_names();
        names.sort();
        match names.as_slice() {
            [name] => Ok(name.clone()),
            [] => Err(Error::invalid(format!("there is no user in {}", self.dir.join("users").display()))),
            names => match names.iter().find(|name| **name == super::login()) {
                Some(name) => Ok(name.clone()),
                None => {
                    Err(Error::invalid(format!("the CA directory has several users: {}", names.join(", ")))
                        .hint("choose one with `ctl --as NAME …` or MAGPIE_USER=NAME"))
                }
            },
        }
    }

    fn user_names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.join("users")).into_iter().flatten().flatten();
        let names =
            entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".crt")?.to_owned()));
        names.filter(|name| names::is_user(name)).collect()
    }

    fn read_user(&self, name: &str) -> Result<Credentials> {
        self.check_known(name)?;
        let (certificate_path, key_path) = (self.user_file(name, "crt"), self.user_file(name, "key"));
        let leaf = certificate(&certificate_path)?;
        let unusable =
            |error| Error::invalid(format!("{} cannot be used: {error}", certificate_path.display()));
        let read = UserCertificate::read(&leaf).map_err(unusable)?;
        read.check_fleet(self.id()).map_err(unusable)?;
        let key = PrivateKeyDer::from_pem_slice(&files::read_private(&key_path)?)
            .map_err(|error| Error::invalid(format!("{} is not a key: {error}", key_path.display())))?;
        let chain = vec![leaf, self.user_ca().clone()];
        Ok(Credentials { user: read.user, not_after: read.not_after, chain, key })
    }

    fn user_file(&self, name: &str, extension: &str) -> PathBuf {
        self.dir.join("users").join(format!("{name}.{extension}"))
    }
}
