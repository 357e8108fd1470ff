//! Issues certificates: P-256, one purpose, one name, random serial numbers.

use std::time::{Duration, SystemTime};

use proto::identity::{
    Role, User,
    certificate::{HostCertificate, KeyDigest, longest_validity},
    names,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
    SubjectPublicKeyInfo,
};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::{Fleet, random};
use crate::error::{Error, Result};

/// A certificate with less time left than this is no longer used.
pub(super) const MARGIN: Duration = Duration::from_secs(10 * 60);

/// How long a host's certificate is valid.
const HOST_LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Certificates are backdated by this much, because clocks differ.
const BACKDATE: Duration = Duration::from_secs(10 * 60);

/// How long a CA is valid; a fleet cannot live longer.
const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A host's certificate and the CA that signed it.
#[derive(Clone, Debug)]
pub struct HostChain {
    /// The leaf, then the host CA.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The leaf's serial number, big-endian.
    pub serial: Vec<u8>,
}

impl Fleet {
    /// Signs a certificate for `host_id` with the key from the request; everything else in the request is ignored. The
    /// key must have signed the request and must be the sender's TLS key.
    ///
    /// # Errors
    /// The request is from another key, or this directory cannot sign hosts.
    pub fn sign_host(
        &self,
        csr: &[u8],
        tls_key: &KeyDigest,
        host_id: &str,
        now: SystemTime,
    ) -> Result<HostChain> {
        if !names::is_label(host_id) {
            return Err(Error::invalid(format!("{host_id:?} is not a valid host id for a certificate")));
        }
        let request = CertificateSigningRequestParams::from_der(&csr.into())
            .map_err(|error| Error::unreachable(format!("the host's signing request is invalid: {error}")))?;
        if KeyDigest::of(&request.public_key.subject_public_key_info()) != *tls_key {
            return Err(Error::unreachable("the host requested a certificate for a key that is not its own"));
        }
        self.host_chain(&request.public_key, host_id, now)
    }

    /// A new certificate, for the same key and name, for a host whose `present` certificate expires soon.
    ///
    /// # Errors
    /// This directory cannot sign hosts.
    pub fn renew_host(
        &self,
        present: &HostCertificate,
        host_id: &str,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>> {
        let key = SubjectPublicKeyInfo::from_der(&present.public_key).map_err(not_issued)?;
        let chain = self.host_chain(&key, host_id, now)?;
        Ok(chain.certificates[0].clone())
    }

    fn host_chain(&self, key: &impl PublicKeyData, host_id: &str, now: SystemTime) -> Result<HostChain> {
        let serial = serial()?;
        let mut params = leaf(host_id, &serial, now, HOST_LIFETIME);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let name = names::host(host_id, self.id()).try_into().map_err(not_issued)?;
        params.subject_alt_names = vec![SanType::DnsName(name)];
        let issuer = self.issuer("host-ca", self.host_ca())?;
        let certificate = params.signed_by(key, &issuer).map_err(not_issued)?;
        Ok(HostChain { certificates: vec![certificate.der().clone(), self.host_ca().clone()], serial })
    }

    /// The user CA.
    ///
    /// # Errors
    /// `lifetime` is not allowed for this role, or `user-ca.key` is missing.
    pub(super) fn user_issuer(&self, role: Role, lifetime: Duration) -> Result<Issuer<'static, KeyPair>> {
        let longest = longest_validity(role);
        if lifetime > longest {
            let days = longest.as_secs() / 86_400;
            return Err(Error::invalid(format!(
                "a certificate for the user role {role} can be valid for at most {days} days"
            ))
            .hint(
                "hosts reject longer ones; ctl renews it automatically in a CA directory with user-ca.key",
            ));
        }
        if lifetime <= MARGIN {
            return Err(Error::invalid(format!(
                "a lifetime must be more than {} minutes: `ctl` uses no certificate that is about to expire",
                MARGIN.as_secs() / 60
            )));
        }
        self.issuer("user-ca", self.user_ca())
    }

    /// Signs a user's key and returns PEM. The maximum lifetime of the role counts from the backdated start.
    pub(super) fn sign_user(
        &self,
        issuer: &Issuer<'static, KeyPair>,
        key: &KeyPair,
        user: &User,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<String> {
        let User { name, role } = user;
        let lifetime = lifetime.min(longest_validity(*role) - BACKDATE);
        let mut params = leaf(name, &serial()?, now, lifetime);
        params.distinguished_name.push(DnType::OrganizationName, role.organisation());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let uri = names::user(self.id(), name).try_into().map_err(not_issued)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        Ok(params.signed_by(key, issuer).map_err(not_issued)?.pem())
    }
}

/// A new CA: key and certificate, both PEM.
pub(super) fn ca(common_name: &str, now: SystemTime) -> Result<(Zeroizing<String>, String)> {
    let key = new_key()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from_slice(&serial()?));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + CA_LIFETIME).into();
    let certificate = params.self_signed(&key).map_err(not_issued)?;
    Ok((Zeroizing::new(key.serialize_pem()), certificate.pem()))
}

/// A new P-256 key.
pub(super) fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(not_issued)
}

fn leaf(common_name: &str, serial: &[u8], now: SystemTime, lifetime: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + lifetime).into();
    params
}

/// 16 random bytes, positive and of full length in DER (RFC 5280 §4.1.2.2).
fn serial() -> Result<Vec<u8>> {
    let mut serial = random::<16>()?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial.to_vec())
}

fn not_issued(error: rcgen::Error) -> Error {
    Error::invalid(format!("cannot issue the certificate: {error}"))
}
