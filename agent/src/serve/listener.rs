//! From a listening socket to connections whose user is proved. tonic's own TLS has no timeout for handshakes,
//! no limit on them, and spins when file descriptors run out; hence this.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use nix::sys::socket::{setsockopt, sockopt};
use proto::identity::{User, certificate::UserCertificate};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use super::shares::{Share, Shares};

/// How much the network may ask of the agent.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a whole TLS handshake.
    pub handshake_timeout: Duration,
    /// Handshakes under way at once; more wait in the kernel's queue.
    pub handshakes: usize,
    /// Of these from one address; more are closed, so that one peer cannot keep out the others.
    pub handshakes_per_address: usize,
    /// Connections at once; more are closed.
    pub connections: usize,
    /// Of these by one user; more are closed.
    pub connections_per_user: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            handshakes: 64,
            handshakes_per_address: 8,
            connections: 256,
            connections_per_user: 32,
        }
    }
}

/// A connection whose other end is a user of this fleet. It ends, like any that breaks, when the user's
/// certificate expires.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    certificate: UserCertificate,
    expiry: Pin<Box<Sleep>>,
    _slot: OwnedSemaphorePermit,
    _share: Share<String>,
}

impl Connection {
    /// What the user's certificate says.
    pub fn certificate(&self) -> &UserCertificate {
        &self.certificate
    }

    /// The TLS stream itself.
    pub fn stream(&mut self) -> &mut TlsStream<TcpStream> {
        &mut self.stream
    }
}

/// Accepts connections and hands over those that prove a user, until it is dropped; what is under way
/// then is dropped as well. A slow handshake delays no other.
pub async fn accept(
    listener: &TcpListener,
    config: Arc<ServerConfig>,
    limits: Limits,
    ready: mpsc::Sender<Connection>,
) -> std::convert::Infallible {
    let handshakes = Arc::new(Semaphore::new(limits.handshakes));
    let gate = Gate {
        acceptor: TlsAcceptor::from(config),
        patience: limits.handshake_timeout,
        addresses: Shares::new(limits.handshakes_per_address),
        connections: Arc::new(Semaphore::new(limits.connections)),
        users: Shares::new(limits.connections_per_user),
        ready,
    };
    let mut under_way = JoinSet::new();
    let mut failures = 0;
    loop {
        let turn = Arc::clone(&handshakes).acquire_owned().await;
        match listener.accept().await {
            Ok((socket, peer)) => {
                failures = 0;
                let gate = gate.clone();
                under_way.spawn(async move {
                    if let Err(error) = gate.admit(socket, peer.ip()).await {
                        tracing::warn!(%peer, "refused: {error}");
                    }
                    drop(turn);
                });
            }
            Err(error) => {
                tracing::warn!("accept: {error}");
                sleep(back_off(failures)).await;
                failures += 1;
            }
        }
        while under_way.try_join_next().is_some() {}
    }
}

/// 50 ms, doubled by each failure in a row, at most 1 s: file descriptors may come back, and until then
/// accept fails at once.
fn back_off(failures: u32) -> Duration {
    Duration::from_millis(50 << failures.min(5)).min(Duration::from_secs(1))
}

/// What every new socket must pass.
#[derive(Clone)]
struct Gate {
    acceptor: TlsAcceptor,
    patience: Duration,
    /// Of whom a handshake is under way.
    addresses: Shares<IpAddr>,
    connections: Arc<Semaphore>,
    /// Who is connected.
    users: Shares<String>,
    ready: mpsc::Sender<Connection>,
}

impl Gate {
    async fn admit(&self, socket: TcpStream, peer: IpAddr) -> io::Result<()> {
        let under_way = self.addresses.take(peer.to_canonical());
        let under_way = under_way.ok_or_else(|| io::Error::other("too many handshakes from this address"))?;
        notice_silence(&socket)?;
        let handshake = timeout(self.patience, self.acceptor.accept(socket));
        let stream = handshake.await.map_err(|_| io::Error::other("the handshake took too long"))??;
        drop(under_way);
        let connection = stream.get_ref().1;
        if connection.alpn_protocol().is_none() {
            return Err(io::Error::other("the client does not say which protocol it speaks"));
        }
        let leaf = connection.peer_certificates().and_then(<[_]>::first);
        let leaf = leaf.ok_or_else(|| io::Error::other("the client showed no certificate"))?;
        let certificate = UserCertificate::read(leaf).map_err(io::Error::other)?;
        let slot = Arc::clone(&self.connections).try_acquire_owned();
        let slot = slot.map_err(|_| io::Error::other("there are too many connections"))?;
        let share = self.users.take(certificate.user.name.clone());
        let share = share.ok_or_else(|| io::Error::other("this user has too many connections"))?;
        let left = certificate.not_after.duration_since(SystemTime::now()).unwrap_or_default();
        let expiry = Box::pin(sleep(left));
        let admitted = Connection { stream, certificate, expiry, _slot: slot, _share: share };
        self.ready.send(admitted).await.map_err(|_| io::Error::other("the agent is stopping"))
    }
}

/// Half-open connections are noticed after 30 s (tcp(7)).
fn notice_silence(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &30)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &10)?;
    setsockopt(socket, sockopt::TcpKeepCount, &3)?;
    setsockopt(socket, sockopt::TcpUserTimeout, &30_000)?;
    Ok(())
}

/// tonic puts this into every request's extensions.
impl Connected for Connection {
    type ConnectInfo = User;

    fn connect_info(&self) -> User {
        self.certificate.user.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.expiry.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::other("the user's certificate has expired")));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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
