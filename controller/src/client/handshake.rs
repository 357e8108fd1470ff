//! TLS for both kinds of connection, and error messages for its failures.

use std::{io, sync::Arc, time::Duration};

use proto::identity::{names, tls};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as TlsError, client::WantsClientCert,
    pki_types::ServerName,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    error::{Error, Result},
    pki::{Credentials, Fleet},
};

/// Time limit for the handshake, and then for the host's first message.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The message when one side does not know the other's CA.
const FOREIGN: &str = "this host belongs to another fleet, or its address now belongs to another host";

/// What the connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Main,
    Enrol,
}

impl Purpose {
    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Main => tls::ALPN_MAIN,
            Self::Enrol => tls::ALPN_ENROL,
        }
    }
}

/// The TLS configuration before a verifier is set.
pub(super) fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(tls::VERSIONS)
        .map_err(invalid)
}

/// Completes the TLS configuration with our certificate and the purpose.
pub(super) fn finish(
    builder: rustls::ConfigBuilder<ClientConfig, WantsClientCert>,
    credentials: Credentials,
    purpose: Purpose,
) -> Result<ClientConfig> {
    let mut config = builder.with_client_auth_cert(credentials.chain, credentials.key).map_err(invalid)?;
    config.alpn_protocols = vec![purpose.alpn().to_vec()];
    // A resumed session would skip checks that were made earlier.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// The name that the host's certificate must have.
pub(super) fn server_name(fleet: &Fleet, host_id: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(names::host(host_id, fleet.id()))
        .map_err(|_| Error::invalid(format!("{host_id:?} is not a valid host id for a certificate")))
}

/// Performs the TLS handshake; pass a failure to [`explain`].
pub(super) async fn handshake<IO>(
    stream: IO,
    config: ClientConfig,
    name: ServerName<'static>,
) -> io::Result<TlsStream<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let offered = config.alpn_protocols.clone();
    let stream = within(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await?;
    if stream.get_ref().1.alpn_protocol() != offered.first().map(Vec::as_slice) {
        return Err(io::Error::other(TlsError::General("it did not choose a protocol (ALPN)".to_owned())));
    }
    Ok(stream)
}

/// Fails with [`io::ErrorKind::TimedOut`] after `patience`.
pub(super) async fn within<T>(
    patience: Duration,
    operation: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(patience, operation).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The TLS alert from the host, if the error is one.
pub(super) fn alert(error: &io::Error) -> Option<AlertDescription> {
    match tls_error(error) {
        Some(TlsError::AlertReceived(alert)) => Some(*alert),
        _ => None,
    }
}

/// The TLS error below an I/O error or a gRPC status, if there is one.
pub(super) fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a TlsError> {
    if let Some(error) = error.downcast_ref::<TlsError>() {
        return Some(error);
    }
    // `source` of an io::Error returns the source of the wrapped error, so get the wrapped error itself first.
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match wrapped {
        Some(wrapped) => tls_error(wrapped),
        None => error.source().and_then(tls_error),
    }
}

/// The error message for a failed connection.
pub(super) fn explain(error: &io::Error, purpose: Purpose) -> Error {
    match tls_error(error) {
        Some(TlsError::AlertReceived(alert)) => refused(*alert, purpose),
        Some(TlsError::InvalidCertificate(certificate)) => distrusted(certificate),
        Some(other) => no_agent(other),
        None if error.kind() == io::ErrorKind::TimedOut => Error::absent("the agent does not answer")
            .hint("the host may still be booting, or may be overloaded; see its console"),
        // A connected socket never returns this: it comes from a proxy command.
        None if error.kind() == io::ErrorKind::ConnectionRefused => Error::absent(error),
        None => Error::unreachable(format!("the host closed the connection: {error}")),
    }
}

/// The error for an alert from the host.
pub(super) fn refused(alert: AlertDescription, purpose: Purpose) -> Error {
    match (alert, purpose) {
        (AlertDescription::NoApplicationProtocol, Purpose::Main) => {
            Error::unreachable("the host is not enrolled yet")
        }
        (AlertDescription::NoApplicationProtocol, Purpose::Enrol) => {
            Error::unreachable("the host is already enrolled")
        }
        (AlertDescription::CertificateExpired, _) => {
            Error::refused("the host says that your certificate has expired or is not valid yet")
                .hint("compare the clocks of both machines; if they agree, have a new certificate issued")
        }
        (AlertDescription::UnknownCA | AlertDescription::DecryptError, _) => Error::refused(FOREIGN),
        (AlertDescription::CertificateUnknown | AlertDescription::BadCertificate, Purpose::Enrol) => {
            Error::refused("the host rejected your certificate")
                .hint("enrolment needs the user role admin or enroller; see the host's console and journal")
        }
        (AlertDescription::CertificateUnknown | AlertDescription::BadCertificate, Purpose::Main) => {
            Error::refused("the host rejected your certificate")
                .hint("the agent's journal on the host shows why: journalctl -u magpie-agent")
        }
        (alert, _) => Error::unreachable(format!("the host refused the connection (TLS alert {alert:?})")),
    }
}

/// The error when we reject the host's certificate.
fn distrusted(error: &CertificateError) -> Error {
    match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Error::unreachable("the address now belongs to another host of this fleet")
                .hint("`ctl hosts` shows the current address of each host")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            Error::unreachable(format!("the host's certificate is no longer valid: {error}"))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Error::unreachable(format!("the host's certificate is not valid yet: {error}"))
                .hint("this machine's clock is probably slow")
        }
        _ => Error::unreachable(FOREIGN),
    }
}

fn no_agent(why: impl std::fmt::Display) -> Error {
    Error::unreachable(format!("the server on that port is not a Magpie agent: {why}"))
}

fn invalid(error: TlsError) -> Error {
    Error::invalid(format!("cannot set up TLS: {error}"))
}
