//! The main connection: gRPC over mutual TLS.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use hyper_util::rt::TokioIo;
use proto::identity::{certificate::HostCertificate, tls};
use rustls::{RootCertStore, client::WebPkiServerVerifier};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader},
    sync::Mutex,
};
use tonic::transport::{Channel, Endpoint};

use super::{
    handshake::{self, PATIENCE, Purpose, within},
    renewal,
};
use crate::{
    error::{Error, Result},
    pki::Fleet,
};

/// The largest message to accept from a host, in bytes; pass it to each client's `max_decoding_message_size`.
pub const MAX_MESSAGE: usize = 32 << 20;

/// Connects to the agent of `host_id` over `stream`. On return both sides are authenticated: the host's certificate is
/// for `host_id`, and the host has accepted ours. If the host's certificate expires soon, it is renewed.
///
/// # Errors
/// No valid user certificate, or the host cannot be verified, rejects our certificate, or does not answer.
pub async fn connect<IO>(stream: IO, fleet: &Fleet, host_id: &str) -> Result<Channel>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut roots = RootCertStore::empty();
    let unusable = |error| Error::invalid(format!("host-ca.crt cannot be used: {error}"));
    roots.add(fleet.host_ca().clone()).map_err(unusable)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), tls::provider())
        .build()
        .map_err(|error| Error::invalid(format!("host-ca.crt cannot be used: {error}")))?;
    let user = fleet.current_user(SystemTime::now())?;
    let role = user.user.role;
    let config =
        handshake::finish(handshake::builder()?.with_webpki_verifier(verifier), user, Purpose::Main)?;
    let explain = |error| handshake::explain(&error, Purpose::Main);
    let name = handshake::server_name(fleet, host_id)?;
    let stream = handshake::handshake(stream, config, name).await.map_err(explain)?;
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let leaf = leaf.ok_or_else(|| Error::unreachable("the host sent no certificate"))?;
    let shown = HostCertificate::read(leaf, host_id, fleet.id()).map_err(Error::unreachable)?;

    // In TLS 1.3 a client is done before the server has looked at its certificate. The server's HTTP/2
    // settings (RFC 9113 §3.4: its first frame, sent unasked) are the proof that it accepted us.
    let mut stream = BufReader::new(stream);
    if within(PATIENCE, stream.fill_buf()).await.map_err(explain)?.is_empty() {
        return Err(
            Error::unreachable("the host closed the connection").hint("it may have too many connections")
        );
    }
    let channel = channel(stream).await?;
    renewal::in_passing(channel.clone(), fleet, role, host_id, &shown).await;
    Ok(channel)
}

/// A channel over this one stream; the channel ends with the stream.
async fn channel<IO>(stream: IO) -> Result<Channel>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let endpoint = Endpoint::from_static("http://agent.magpie.internal")
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .http2_max_header_list_size(16 << 10)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(false);
    let once = Arc::new(Mutex::new(Some(stream)));
    let connector = tower::service_fn(move |_| {
        let once = Arc::clone(&once);
        async move {
            let stream = once.lock().await.take();
            stream
                .map(TokioIo::new)
                .ok_or_else(|| std::io::Error::other("the connection to the host was lost"))
        }
    });
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|error| Error::unreachable(format!("HTTP/2: {error}")))
}
