//! TLS configuration: TLS 1.3, no resumption, and our own checks of user certificates in addition to rustls's.

use std::sync::Arc;

use proto::identity::{
    certificate::{CertificateError, KeyDigest, UserCertificate},
    tls,
};
use rustls::{
    CertificateError as Refusal, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime},
    server::{
        NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::enrol::{EnrolError, candidate::Candidate, identity::Identity, renewal::Shown};

/// The configuration of an enrolled host, which presents the certificate `shown`: HTTP/2 with users of its fleet.
///
/// # Errors
/// If the users' CA cannot be used.
pub fn enrolled(identity: &Identity, shown: Arc<Shown>) -> Result<ServerConfig, EnrolError> {
    let trust = Trust::Fleet {
        id: identity.fleet_id.clone(),
        verifier: anchored_at(&identity.user_ca).map_err(EnrolError::crypto)?,
    };
    config(trust, shown, tls::ALPN_MAIN)
}

/// The configuration of a host that waits for enrolment: `enrol/1` with users of the pinned CA who may enrol.
///
/// # Errors
/// If the key or certificate cannot be used.
pub fn enrolling(candidate: &Candidate, user_ca_pin: KeyDigest) -> Result<ServerConfig, EnrolError> {
    let chain = vec![candidate.certificate()?];
    let certified = CertifiedKey::from_der(chain, candidate.private_key(), &tls::provider());
    let shown = SingleCertAndKey::from(certified.map_err(EnrolError::crypto)?);
    config(Trust::Pin(user_ca_pin), Arc::new(shown), tls::ALPN_ENROL)
}

fn config(trust: Trust, shown: Arc<dyn ResolvesServerCert>, alpn: &[u8]) -> Result<ServerConfig, EnrolError> {
    let provider = tls::provider();
    let verifier = Arc::new(UserVerifier { trust, provider: Arc::clone(&provider) });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(tls::VERSIONS)
        .map_err(EnrolError::crypto)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![alpn.to_vec()];
    // A resumed session would keep an expired certificate valid: rustls does not verify it again.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

fn anchored_at(ca: &CertificateDer<'_>) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone().into_owned())?;
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider())
        .build()
        .map_err(|error| Error::General(error.to_string()))
}

/// Whose users to trust.
#[derive(Debug)]
enum Trust {
    /// Admins and enrollers of the CA whose key has this digest; the client sends the CA certificate itself.
    Pin(KeyDigest),
    /// All users of this fleet's CA. `authz` decides for each call.
    Fleet { id: String, verifier: Arc<dyn ClientCertVerifier> },
}

impl Trust {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self {
            Self::Pin(pin) => {
                let pinned =
                    |ca: &&CertificateDer<'_>| KeyDigest::of_certificate(ca).is_ok_and(|key| key == *pin);
                let ca = above.iter().find(pinned).ok_or(Refusal::UnknownIssuer)?;
                anchored_at(ca)?.verify_client_cert(leaf, &[], now)
            }
            Self::Fleet { verifier, .. } => verifier.verify_client_cert(leaf, &[], now),
        }
    }

    fn check(&self, leaf: &CertificateDer<'_>) -> Result<(), CertificateError> {
        let certificate = UserCertificate::read(leaf)?;
        match self {
            Self::Pin(_) if certificate.user.role.may_enrol() => Ok(()),
            Self::Pin(_) => Err(CertificateError::Role),
            Self::Fleet { id, .. } => certificate.check_fleet(id),
        }
    }
}

/// rustls's own verification, followed by ours.
#[derive(Debug)]
struct UserVerifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for UserVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.trust.verify(leaf, above, now)?;
        self.trust.check(leaf).map_err(|error| Refusal::Other(OtherError(Arc::new(error))))?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 is the only version".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
