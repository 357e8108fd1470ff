//! Clients and servers that misbehave on demand.

use std::{io, net::SocketAddr, sync::Arc};

use prost::Message;
use proto::identity::{frame, tls};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::lab::Pair;

/// A client that accepts every server certificate.
pub(crate) async fn client(
    address: SocketAddr,
    pair: Option<Pair>,
    alpn: Option<&[u8]>,
) -> io::Result<client::TlsStream<TcpStream>> {
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(tls::VERSIONS)
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible));
    let mut config = match pair {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).expect("a pair"),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
    let name = ServerName::try_from("whoever.magpie.internal").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
}

/// Why the server closed the connection; `None` if it sent data instead.
pub(crate) async fn refusal(stream: io::Result<client::TlsStream<TcpStream>>) -> Option<String> {
    let mut first = [0];
    let read = match stream {
        Ok(mut stream) => stream.read(&mut first).await,
        Err(error) => Err(error),
    };
    match read {
        Ok(0) => Some("closed".to_owned()),
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    }
}

/// A server that accepts any client and requests no certificate.
pub(crate) async fn server(
    stream: TcpStream,
    (chain, key): Pair,
    alpn: &[u8],
) -> io::Result<server::TlsStream<TcpStream>> {
    let mut config = ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(tls::VERSIONS)
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a pair");
    config.alpn_protocols = vec![alpn.to_vec()];
    TlsAcceptor::from(Arc::new(config)).accept(stream).await
}

/// A certificate that contains nothing but its key.
pub(crate) fn self_signed() -> Pair {
    let key = rcgen::KeyPair::generate().expect("a key");
    let leaf = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate");
    (vec![leaf.der().clone()], key.into())
}

pub(crate) async fn send(stream: &mut (impl AsyncWrite + Unpin), message: &impl Message) {
    let frame = frame::encode(message).expect("short enough");
    stream.write_all(&frame).await.expect("sent");
    stream.flush().await.expect("sent");
}

pub(crate) async fn receive<M: Message + Default>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<M> {
    let mut header = [0; frame::HEADER];
    stream.read_exact(&mut header).await?;
    let mut body = vec![0; frame::length(header).expect("short enough")];
    stream.read_exact(&mut body).await?;
    Ok(frame::decode(&body).expect("a message"))
}

#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::provider().signature_verification_algorithms.supported_schemes()
    }
}
