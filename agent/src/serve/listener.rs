//! Turns a listening socket into connections with a verified user. tonic's own TLS has no timeout or limit for
//! handshakes, and spins when file descriptors run out.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use nix::sys::socket::{setsockopt, sockopt};
use proto::identity::certificate::UserCertificate;
use rustls::{ServerConfig, server::Acceptor};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{Interval, MissedTickBehavior, Sleep, interval, sleep, timeout},
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use super::{
    admission::{Caller, Unread},
    handshakes::{Handshakes, Proved, network},
    shares::{Bounds, Full, Place, Places},
};

/// Limits on what network clients may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Timeout for the first message of a TLS handshake, from addresses without a recently verified user. A client
    /// sends this message at once, unless its machine is busy.
    pub hello_timeout: Duration,
    /// Timeout for a whole TLS handshake.
    pub handshake_timeout: Duration,
    /// Maximum number of open handshakes; beyond it the oldest is aborted.
    pub handshakes: usize,
    /// Maximum from one network, a /24 or a /64: one party can have many addresses in it.
    pub handshakes_per_network: usize,
    /// Additional handshakes for addresses that proved a user within the last hour.
    pub handshakes_known: usize,
    /// Maximum number of connections; further ones are closed.
    pub connections: Bounds,
    /// Maximum number of open calls on all connections; further ones are refused.
    pub calls: Bounds,
    /// How long a caller may leave an answer unread before the connection is closed.
    pub unread: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hello_timeout: Duration::from_secs(3),
            handshake_timeout: Duration::from_secs(5),
            handshakes: 64,
            handshakes_per_network: 16,
            handshakes_known: 32,
            connections: Bounds { all: 256, kept: 64, each: 32 },
            calls: Bounds { all: 160, kept: 64, each: 32 },
            // A person may be reading its first page.
            unread: Duration::from_secs(600),
        }
    }
}

/// A connection with a verified user of this fleet. It breaks when the user's certificate expires, or when an answer
/// is unread for too long.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    certificate: UserCertificate,
    expiry: Pin<Box<Sleep>>,
    unread: Unread,
    patience: Duration,
    look: Interval,
    _place: Place,
}

impl Connection {
    /// The user's certificate.
    pub fn certificate(&self) -> &UserCertificate {
        &self.certificate
    }

    /// The TLS stream.
    pub fn stream(&mut self) -> &mut TlsStream<TcpStream> {
        &mut self.stream
    }

    /// # Errors
    /// If the connection must be closed.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.expiry.as_mut().poll(cx).is_ready() {
            return Err(io::Error::other("the user's certificate has expired"));
        }
        // Poll until pending: only then does the interval wake this task again.
        while self.look.poll_tick(cx).is_ready() {
            self.unread.check(self.patience).inspect_err(|error| {
                tracing::warn!(user = self.certificate.user.name, "closed: {error}");
            })?;
        }
        Ok(())
    }
}

/// Accepts connections and passes on those with a verified user, until the future is dropped; open handshakes are
/// dropped with it. A slow handshake does not delay others.
pub async fn accept(
    listener: &TcpListener,
    config: Arc<ServerConfig>,
    limits: Limits,
    ready: mpsc::Sender<Connection>,
) -> std::convert::Infallible {
    let gate = Gate {
        config,
        limits,
        proved: Proved::default(),
        connections: Places::new(limits.connections),
        ready,
    };
    let each = limits.handshakes_per_network;
    let mut strangers = Handshakes::new(limits.handshakes, each);
    let mut known = Handshakes::new(limits.handshakes_known, each);
    let mut under_way = JoinSet::new();
    let mut failures = 0;
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                failures = 0;
                let (gate, address) = (gate.clone(), peer.ip().to_canonical());
                let is_known = gate.proved.knows(address, Instant::now());
                let handshake = under_way.spawn(async move {
                    if let Err(error) = gate.admit(socket, address, is_known).await {
                        tracing::warn!(%peer, "refused: {error}");
                    }
                });
                // Separate limits: handshakes of strangers never abort one from a known address.
                match is_known {
                    true => known.add(address, handshake),
                    false => strangers.add(network(address), handshake),
                }
            }
            Err(error) => {
                tracing::warn!("accept: {error}");
                sleep(back_off(failures)).await;
                failures += 1;
            }
        }
        // Remove finished handshakes, or the set grows without limit.
        while under_way.try_join_next().is_some() {}
    }
}

/// 50 ms, doubled for each consecutive failure, at most 1 s: file descriptors may become free, and until then accept
/// fails at once.
fn back_off(failures: u32) -> Duration {
    Duration::from_millis(50 << failures.min(5)).min(Duration::from_secs(1))
}

/// The checks for every new connection.
#[derive(Clone)]
struct Gate {
    config: Arc<ServerConfig>,
    limits: Limits,
    proved: Proved,
    connections: Places,
    ready: mpsc::Sender<Connection>,
}

impl Gate {
    async fn admit(&self, socket: TcpStream, peer: IpAddr, is_known: bool) -> io::Result<()> {
        notice_silence(&socket)?;
        let Limits { hello_timeout, handshake_timeout, .. } = self.limits;
        let patience = if is_known { handshake_timeout } else { hello_timeout };
        let handshake = timeout(handshake_timeout, self.handshake(socket, patience));
        let stream = handshake.await.map_err(|_| io::Error::other("the handshake took too long"))??;
        let connection = stream.get_ref().1;
        if connection.alpn_protocol().is_none() {
            return Err(io::Error::other("the client did not negotiate a protocol (ALPN)"));
        }
        let leaf = connection.peer_certificates().and_then(<[_]>::first);
        let leaf = leaf.ok_or_else(|| io::Error::other("the client sent no certificate"))?;
        let certificate = UserCertificate::read(leaf).map_err(io::Error::other)?;
        // Even if the connection is refused below: the address has proved a user.
        self.proved.note(peer, Instant::now());
        let place = self.connections.take(&certificate.user).map_err(|full| {
            io::Error::other(match full {
                Full::User => format!("{} has too many connections", certificate.user.name),
                Full::All => "this host has too many connections".to_owned(),
            })
        })?;
        let admitted = self.connection(stream, certificate, place);
        self.ready.send(admitted).await.map_err(|_| io::Error::other("the agent is stopping"))
    }

    async fn handshake(&self, socket: TcpStream, patience: Duration) -> io::Result<TlsStream<TcpStream>> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), socket);
        let hello = timeout(patience, hello).await;
        let hello = hello.map_err(|_| io::Error::other("the client sent nothing"))??;
        hello.into_stream(Arc::clone(&self.config)).await
    }

    fn connection(
        &self,
        stream: TlsStream<TcpStream>,
        certificate: UserCertificate,
        place: Place,
    ) -> Connection {
        let left = certificate.not_after.duration_since(SystemTime::now()).unwrap_or_default();
        let patience = self.limits.unread;
        let mut look = interval(patience / 8);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Connection {
            stream,
            certificate,
            expiry: Box::pin(sleep(left)),
            unread: Unread::default(),
            patience,
            look,
            _place: place,
        }
    }
}

/// Enables keepalive, which detects a dead peer after 30 s (tcp(7)).
fn notice_silence(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &30)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &10)?;
    setsockopt(socket, sockopt::TcpKeepCount, &3)?;
    setsockopt(socket, sockopt::TcpUserTimeout, &30_000)?;
    Ok(())
}

/// tonic stores this in the extensions of every request.
impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        Caller { user: self.certificate.user.clone(), unread: self.unread.clone() }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_and_is_bounded() {
        let pauses: Vec<_> = (0..7).map(|failures| back_off(failures).as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(back_off(u32::MAX), Duration::from_secs(1));
    }
}
