//! The controller's side of `enrol/1`; see `proto::identity::enrol` for the messages.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use prost::Message;
use proto::{
    identity::{
        certificate::KeyDigest,
        enrol::{NONCE_LEN, Session, exporter},
        frame, tls,
    },
    pb::{EnrolCommitted, EnrolGrant, EnrolHello, Sealed},
};
use rustls::{
    AlertDescription, DigitallySignedStruct, Error as TlsError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::client::TlsStream;

use super::handshake::{self, PATIENCE, Purpose, within};
use crate::{
    error::{Error, Result},
    pki::Fleet,
};

/// Maximum clock difference; with more, certificates would be invalid on one side.
const MAX_SKEW: Duration = Duration::from_secs(10 * 60);

/// The result of a successful enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The host has stored its new identity.
    Committed,
    /// The host already has an identity; [`super::connect`] shows whether it is from this fleet.
    AlreadyEnrolled,
}

/// Enrols the host at the other end of `stream` as `host_id`, if it knows the token of `tid`. The host is certainly
/// enrolled only when [`super::connect`] succeeds afterwards.
///
/// # Errors
/// The host could not prove its identity, rejects our certificate, or did not finish. Safe to retry.
pub async fn enrol<IO>(stream: IO, fleet: &Fleet, tid: &str, host_id: &str) -> Result<Outcome>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    enrol_at(stream, fleet, tid, host_id, SystemTime::now()).await
}

/// [`enrol`], with the time given.
///
/// # Errors
/// As [`enrol`].
pub async fn enrol_at<IO>(
    stream: IO,
    fleet: &Fleet,
    tid: &str,
    host_id: &str,
    now: SystemTime,
) -> Result<Outcome>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let config = handshake::finish(
        handshake::builder()?.dangerous().with_custom_certificate_verifier(Arc::new(AnyKey(tls::provider()))),
        fleet.current_user(now)?,
        Purpose::Enrol,
    )?;
    let name = handshake::server_name(fleet, host_id)?;
    let stream = match handshake::handshake(stream, config, name).await {
        Ok(stream) => stream,
        Err(error) if handshake::alert(&error) == Some(AlertDescription::NoApplicationProtocol) => {
            return Ok(Outcome::AlreadyEnrolled);
        }
        Err(error) => return Err(handshake::explain(&error, Purpose::Enrol)),
    };
    Exchange::new(stream, fleet, tid, host_id, now)?.run().await
}

/// One connection to a host that wants to be enrolled.
struct Exchange<'a, IO> {
    stream: TlsStream<IO>,
    session: Session,
    agent_key: KeyDigest,
    fleet: &'a Fleet,
    tid: &'a str,
    host_id: &'a str,
    now: SystemTime,
}

impl<'a, IO: AsyncRead + AsyncWrite + Unpin> Exchange<'a, IO> {
    fn new(
        stream: TlsStream<IO>,
        fleet: &'a Fleet,
        tid: &'a str,
        host_id: &'a str,
        now: SystemTime,
    ) -> Result<Self> {
        let connection = stream.get_ref().1;
        let exporter = exporter(connection, tid).map_err(Error::unreachable)?;
        let session = Session::new(tid, &fleet.token(tid)?, exporter);
        let leaf = connection.peer_certificates().and_then(<[_]>::first);
        let leaf = leaf.ok_or_else(|| Error::unreachable("the host sent no certificate"))?;
        let agent_key = KeyDigest::of_certificate(leaf).map_err(Error::unreachable)?;
        Ok(Self { stream, session, agent_key, fleet, tid, host_id, now })
    }

    async fn run(mut self) -> Result<Outcome> {
        let sealed: Sealed = self.receive().await?;
        let hello = self.session.open_hello(&sealed, &self.agent_key).map_err(|_| self.unproved())?;
        self.check(&hello)?;
        let chain = self.fleet.sign_host(&hello.csr, &self.agent_key, self.host_id, self.now)?;
        let grant = EnrolGrant {
            nonce: hello.nonce,
            host_id: self.host_id.to_owned(),
            fleet_id: self.fleet.id().to_owned(),
            certificates: chain.certificates.iter().map(|certificate| certificate.to_vec()).collect(),
            user_ca: self.fleet.user_ca().to_vec(),
            time_unix_ms: unix_ms(self.now),
        };
        let grant = self.session.seal_grant(&grant, &sealed);
        self.send(&grant).await?;
        let committed: EnrolCommitted = self.receive().await.map_err(|error| {
            error
                .context("the host did not confirm that it stored its identity")
                .hint("try again: enrolment resumes where it stopped")
        })?;
        if committed.serial != chain.serial {
            return Err(Error::unreachable(
                "the host confirmed a different certificate from the one it was given",
            ));
        }
        Ok(Outcome::Committed)
    }

    /// Checks transaction id, nonce and clock; names in the message are ignored.
    fn check(&self, hello: &EnrolHello) -> Result<()> {
        if hello.tid != self.tid || hello.nonce.len() != NONCE_LEN {
            return Err(Error::unreachable("the host sent an invalid enrol/1 message"));
        }
        let (here, there) = (unix_ms(self.now), hello.time_unix_ms);
        if here.abs_diff(there) <= MAX_SKEW.as_millis().try_into().unwrap_or(u64::MAX) {
            return Ok(());
        }
        let shown =
            |ms| Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |time| time.to_string());
        Err(Error::unreachable(format!(
            "the clocks differ by more than {} minutes: {} here, {} on the host",
            MAX_SKEW.as_secs() / 60,
            shown(here),
            shown(there)
        ))
        .hint("correct the wrong clock and try again: certificates must be valid on both sides"))
    }

    fn unproved(&self) -> Error {
        let key = self.agent_key;
        Error::unreachable(format!("the host could not prove that it belongs to enrolment {}", self.tid))
            .hint(format!("it sent the key {key}; compare it with the key on the host's console"))
    }

    async fn send(&mut self, message: &impl Message) -> Result<()> {
        let frame = frame::encode(message).map_err(Error::unreachable)?;
        let stream = &mut self.stream;
        let sending = async {
            stream.write_all(&frame).await?;
            stream.flush().await
        };
        within(PATIENCE, sending).await.map_err(|error| handshake::explain(&error, Purpose::Enrol))
    }

    async fn receive<M: Message + Default>(&mut self) -> Result<M> {
        let stream = &mut self.stream;
        let receiving = async {
            let mut header = [0; frame::HEADER];
            stream.read_exact(&mut header).await?;
            let mut body = vec![0; frame::length(header).map_err(io::Error::other)?];
            stream.read_exact(&mut body).await?;
            frame::decode(&body).map_err(io::Error::other)
        };
        within(PATIENCE, receiving).await.map_err(|error| handshake::explain(&error, Purpose::Enrol))
    }
}

fn unix_ms(time: SystemTime) -> i64 {
    Timestamp::try_from(time).map_or(i64::MAX, Timestamp::as_millisecond)
}

/// Accepts any certificate whose key signs the handshake; the host proves its identity afterwards, with M1.
#[derive(Debug)]
struct AnyKey(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("enrol/1 needs TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
