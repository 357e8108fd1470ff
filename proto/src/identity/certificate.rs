//! Magpie's own checks of a leaf certificate, in addition to those of the TLS library.
//!
//! The library verifies chain, dates and (for hosts) the name, but accepts a certificate without extended key usage
//! for any purpose; here the usage is mandatory and must be the only one. The library also does not know about roles.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{ExtendedKeyUsage, GeneralName},
    prelude::FromDer,
};

use super::{Role, User, names};
use crate::lower_hex;

/// Maximum validity of a certificate that a host accepts for this role, whatever the CA allowed: 30 days for readers,
/// so that monitoring does not need a new certificate every week, and 7 days for others.
pub const fn longest_validity(role: Role) -> Duration {
    let days = match role {
        Role::Reader => 30,
        Role::Enroller | Role::Operator | Role::Admin => 7,
    };
    Duration::from_secs(days * 24 * 60 * 60)
}

/// SHA-256 of a SubjectPublicKeyInfo (RFC 5280 §4.1), DER; displayed as `sha256:<hex>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    const PREFIX: &str = "sha256:";

    /// Digest of an encoded SubjectPublicKeyInfo.
    pub fn of(spki: &[u8]) -> Self {
        let mut digest = Self([0; 32]);
        digest.0.copy_from_slice(digest::digest(&digest::SHA256, spki).as_ref());
        digest
    }

    /// Digest of the key in an encoded certificate.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`].
    pub fn of_certificate(der: &[u8]) -> Result<Self, CertificateError> {
        Ok(Self::of(parse(der)?.public_key().raw))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, lower_hex::encode(&self.0))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyDigest {
    type Err = CertificateError;

    fn from_str(text: &str) -> Result<Self, CertificateError> {
        let mut digest = Self([0; 32]);
        let hex = text.strip_prefix(Self::PREFIX).ok_or(CertificateError::Malformed)?;
        if lower_hex::decode(hex, &mut digest.0) { Ok(digest) } else { Err(CertificateError::Malformed) }
    }
}

/// Why a certificate is refused, even if the right CA signed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not exactly one X.509 certificate, or one with duplicate or malformed extensions.
    #[error("the certificate is malformed")]
    Malformed,
    /// Extended key usage is missing, wrong, or not the only one.
    #[error("the certificate's extended key usage is not exactly {0}")]
    Usage(&'static str),
    /// The certificate could sign others.
    #[error("the certificate is a CA certificate")]
    IsCa,
    /// The subject's organisation is missing, repeated, or not a role.
    #[error("the certificate names no known role")]
    Role,
    /// Not exactly one alternative name in Magpie's format.
    #[error("the certificate does not have exactly one name of a user or host")]
    Name,
    /// A valid certificate, but for someone else.
    #[error("the certificate is for {found}, not for {expected}")]
    Other {
        /// The name in the certificate.
        found: String,
        /// The expected name.
        expected: String,
    },
    /// Valid for longer than [`longest_validity`].
    #[error("the certificate is valid for {seconds} seconds, more than the {} days allowed for role {role}",
        longest_validity(*.role).as_secs() / 86_400)]
    Lifetime {
        /// Total validity, in seconds.
        seconds: i64,
        /// The role in the certificate.
        role: Role,
    },
}

/// The content of a user's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserCertificate {
    /// Name and role.
    pub user: User,
    /// The user's fleet.
    pub fleet_id: String,
    /// The end of its validity.
    pub not_after: SystemTime,
}

impl UserCertificate {
    /// Reads and checks an encoded leaf. The TLS library must verify signature and dates.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let leaf = parse(der)?;
        check_purpose(&leaf, Purpose::Client)?;
        let uri = match alternative_names(&leaf)?.as_slice() {
            [GeneralName::URI(uri)] => *uri,
            _ => return Err(CertificateError::Name),
        };
        let (fleet_id, name) = names::parse_user(uri).ok_or(CertificateError::Name)?;
        let validity = leaf.validity();
        let seconds = validity.not_after.timestamp().saturating_sub(validity.not_before.timestamp());
        let role = role(&leaf)?;
        if seconds.cast_unsigned() > longest_validity(role).as_secs() {
            return Err(CertificateError::Lifetime { seconds, role });
        }
        Ok(Self {
            user: User { name: name.to_owned(), role },
            fleet_id: fleet_id.to_owned(),
            not_after: time(validity.not_after.timestamp()),
        })
    }

    /// Refuses a user of a different fleet.
    ///
    /// # Errors
    /// [`CertificateError::Other`].
    pub fn check_fleet(&self, fleet_id: &str) -> Result<(), CertificateError> {
        if self.fleet_id == fleet_id {
            return Ok(());
        }
        let name = &self.user.name;
        Err(CertificateError::Other {
            found: names::user(&self.fleet_id, name),
            expected: names::user(fleet_id, name),
        })
    }
}

/// The content of a host's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCertificate {
    /// Serial number, big-endian.
    pub serial: Vec<u8>,
    /// Digest of the host's public key.
    pub key: KeyDigest,
    /// The public key: SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    /// The end of its validity.
    pub not_after: SystemTime,
}

impl HostCertificate {
    /// Reads and checks an encoded leaf, which must be for exactly this host. The TLS library must verify signature
    /// and dates.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn read(der: &[u8], host_id: &str, fleet_id: &str) -> Result<Self, CertificateError> {
        let leaf = parse(der)?;
        check_purpose(&leaf, Purpose::Server)?;
        let found = match alternative_names(&leaf)?.as_slice() {
            [GeneralName::DNSName(name)] => *name,
            _ => return Err(CertificateError::Name),
        };
        let expected = names::host(host_id, fleet_id);
        if found != expected {
            return Err(CertificateError::Other { found: found.to_owned(), expected });
        }
        Ok(Self {
            serial: leaf.raw_serial().to_vec(),
            key: KeyDigest::of(leaf.public_key().raw),
            public_key: leaf.public_key().raw.to_vec(),
            not_after: time(leaf.validity().not_after.timestamp()),
        })
    }
}

/// The purpose of a certificate: the only extended key usage that it may have.
#[derive(Clone, Copy)]
enum Purpose {
    Client,
    Server,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Client => "clientAuth",
            Self::Server => "serverAuth",
        }
    }

    fn is_only(self, usage: &ExtendedKeyUsage<'_>) -> bool {
        let others = usage.any
            || usage.code_signing
            || usage.email_protection
            || usage.time_stamping
            || usage.ocsp_signing
            || !usage.other.is_empty();
        let (wanted, opposite) = match self {
            Self::Client => (usage.client_auth, usage.server_auth),
            Self::Server => (usage.server_auth, usage.client_auth),
        };
        wanted && !opposite && !others
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::Malformed),
    }
}

fn check_purpose(leaf: &X509Certificate<'_>, purpose: Purpose) -> Result<(), CertificateError> {
    let constraints = leaf.basic_constraints().map_err(|_| CertificateError::Malformed)?;
    if constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err(CertificateError::IsCa);
    }
    match leaf.extended_key_usage() {
        Ok(Some(usage)) if purpose.is_only(usage.value) => Ok(()),
        Ok(_) => Err(CertificateError::Usage(purpose.name())),
        Err(_) => Err(CertificateError::Malformed),
    }
}

fn alternative_names<'a>(
    leaf: &'a X509Certificate<'a>,
) -> Result<&'a Vec<GeneralName<'a>>, CertificateError> {
    match leaf.subject_alternative_name() {
        Ok(Some(names)) => Ok(&names.value.general_names),
        Ok(None) => Err(CertificateError::Name),
        Err(_) => Err(CertificateError::Malformed),
    }
}

/// The role in the subject; several organisations are refused.
fn role(leaf: &X509Certificate<'_>) -> Result<Role, CertificateError> {
    let mut organisations = leaf.subject().iter_organization();
    let (Some(organisation), None) = (organisations.next(), organisations.next()) else {
        return Err(CertificateError::Role);
    };
    organisation.as_str().ok().and_then(Role::from_organisation).ok_or(CertificateError::Role)
}

fn time(unix_seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(unix_seconds).unwrap_or_default())
}
