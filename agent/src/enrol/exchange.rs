//! The agent's side of the three messages; `proto::identity::enrol` defines their codes.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prost::Message;
use proto::{
    identity::{
        certificate::{HostCertificate, KeyDigest},
        document::Document,
        enrol::{NONCE_LEN, Session, exporter},
        frame, names, tls,
    },
    pb::{EnrolCommitted, EnrolGrant, EnrolHello},
};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::server::TlsStream;

use super::{
    EnrolError,
    candidate::Candidate,
    identity::Identity,
    machine::{self, Binding},
};
use crate::paths::Paths;

/// A host that is ready for enrolment.
pub struct Enrolment {
    paths: Paths,
    system: PathBuf,
    machine: Binding,
    document: Document,
    candidate: Candidate,
    /// Several controllers may try at once: the first grant wins.
    committed: Mutex<bool>,
}

impl Enrolment {
    /// Loads or creates the host's key. `machine` is what the identity will be bound to; `system` is the root of the
    /// file system that describes it.
    ///
    /// # Errors
    /// If the key cannot be read or written.
    pub fn prepare(
        paths: &Paths,
        system: PathBuf,
        machine: Binding,
        document: Document,
    ) -> Result<Self, EnrolError> {
        let candidate = Candidate::prepare(paths)?;
        Ok(Self { paths: paths.clone(), system, machine, document, candidate, committed: Mutex::default() })
    }

    /// The enrol document.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The machine that the identity will be bound to.
    pub fn machine(&self) -> &Binding {
        &self.machine
    }

    /// The host's key.
    pub fn candidate(&self) -> &Candidate {
        &self.candidate
    }

    /// The console line with the key's digest, which a provider compares with the key on the wire.
    pub fn announcement(&self) -> String {
        format!("MAGPIE-ENROL v1 tid={} spki={}", self.document.tid, self.candidate.digest())
    }

    /// Runs the exchange with a controller whose certificate names `fleet_id`. On success the identity is stored,
    /// even if the final message did not reach the controller; the controller checks that itself.
    ///
    /// # Errors
    /// If the connection breaks, the controller cannot prove that it knows the token, or its grant is invalid or
    /// cannot be stored.
    pub async fn exchange<IO>(&self, stream: &mut TlsStream<IO>, fleet_id: &str) -> Result<(), EnrolError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        self.document.check(SystemTime::now())?;
        let tid = &self.document.tid;
        let exporter = exporter(stream.get_ref().1, tid).map_err(EnrolError::crypto)?;
        let session = Session::new(tid, &self.document.token, exporter);
        let hello = self.hello()?;
        let sealed = session.seal_hello(&hello, &self.candidate.digest());
        send(stream, &sealed).await?;
        let grant = session.open_grant(&receive(stream).await?, &sealed)?;
        let serial = self.check(&grant, &hello, fleet_id)?;
        self.commit(&grant)?;
        let told = send(stream, &EnrolCommitted { serial }).await;
        if let Err(error) = told {
            tracing::warn!("enrolled, but the controller did not get the confirmation: {error}");
        }
        Ok(())
    }

    fn commit(&self, grant: &EnrolGrant) -> Result<(), EnrolError> {
        let mut committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        if *committed {
            return Err(EnrolError::Grant("another controller enrolled this host first"));
        }
        Identity::commit(&self.paths, grant, &self.machine)?;
        *committed = true;
        Ok(())
    }

    fn hello(&self) -> Result<EnrolHello, EnrolError> {
        let mut nonce = vec![0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(EnrolError::crypto)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(EnrolHello {
            tid: self.document.tid.clone(),
            nonce,
            csr: self.candidate.request()?,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            machine_id: self.machine.machine_id.clone().unwrap_or_default(),
            boot_id: machine::boot_id(&self.system).unwrap_or_default(),
            time_unix_ms: now.as_millis().try_into().unwrap_or(i64::MAX),
        })
    }

    /// Checks a grant whose seal is valid; returns the serial number of its certificate.
    fn check(&self, grant: &EnrolGrant, hello: &EnrolHello, fleet_id: &str) -> Result<Vec<u8>, EnrolError> {
        if grant.nonce != hello.nonce {
            return Err(EnrolError::Grant("it does not answer this host's hello"));
        }
        if !names::is_label(&grant.host_id) || grant.fleet_id != fleet_id {
            return Err(EnrolError::Grant("it is for a different fleet than the controller's"));
        }
        let [leaf, host_ca] = grant.certificates.as_slice() else {
            return Err(EnrolError::Grant("it does not have exactly two certificates"));
        };
        let host = HostCertificate::read(leaf, &grant.host_id, fleet_id)?;
        if host.key != self.candidate.digest() {
            return Err(EnrolError::Grant("the certificate is for a different key"));
        }
        if KeyDigest::of_certificate(&grant.user_ca)? != self.document.user_ca_pin {
            return Err(EnrolError::Grant("the users' CA is not the pinned one"));
        }
        verify(leaf, host_ca, &names::host(&grant.host_id, fleet_id), grant.time_unix_ms)?;
        Ok(host.serial)
    }
}

/// Verifies chain and name, as every controller will. Uses the controller's time, because the certificate's dates come
/// from the controller's clock.
pub(super) fn verify(leaf: &[u8], host_ca: &[u8], name: &str, time_unix_ms: i64) -> Result<(), EnrolError> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(host_ca)).map_err(EnrolError::crypto)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), tls::provider())
        .build()
        .map_err(EnrolError::crypto)?;
    let name = ServerName::try_from(name).map_err(EnrolError::crypto)?;
    let now = UnixTime::since_unix_epoch(Duration::from_millis(time_unix_ms.try_into().unwrap_or_default()));
    verifier
        .verify_server_cert(&CertificateDer::from(leaf), &[], &name, &[], now)
        .map_err(|_| EnrolError::Grant("the certificate is not signed by the host CA that came with it"))?;
    Ok(())
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), message: &impl Message) -> Result<(), EnrolError> {
    stream.write_all(&frame::encode(message)?).await?;
    Ok(stream.flush().await?)
}

async fn receive<M: Message + Default>(stream: &mut (impl AsyncRead + Unpin)) -> Result<M, EnrolError> {
    let mut header = [0; frame::HEADER];
    stream.read_exact(&mut header).await?;
    let mut body = vec![0; frame::length(header)?];
    stream.read_exact(&mut body).await?;
    Ok(frame::decode(&body)?)
}
