//! Connections into the cloud: the socket is opened inside its network namespace and handed out, open.
//! (A socket belongs for ever to the namespace it was made in; network_namespaces(7).)

use std::{
    fmt::Display,
    io,
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::{
    error::Result,
    provider::local::{
        namespace::{
            channel::Channel,
            step::{Start, Step},
            userns,
        },
        state::StateDir,
    },
};

/// The shortest time that a connection attempt gets.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Between attempts: a refused connection costs microseconds.
const PAUSE: Duration = Duration::from_millis(3);

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    /// A process in the cloud.
    member: u32,
    address: SocketAddr,
    /// Go on trying for so long when nobody listens yet; zero means one attempt.
    patience: Duration,
}

/// Connects to `address` inside the cloud that process `member` is in. The error keeps its kind, so that a caller can tell "not yet" from
/// "never"; `name` is for its sentence.
pub(crate) fn dial(
    state: &StateDir,
    ctl: &Path,
    member: u32,
    address: SocketAddr,
    name: &str,
    patience: Duration,
) -> io::Result<TcpStream> {
    let (channel, mut child) =
        Start::new(ctl, Step::Dial, name).spawn(state.root()).map_err(io::Error::other)?;
    let outcome = channel
        .send(&Request { member, address, patience })
        .and_then(|()| channel.receive::<Option<i32>>())
        .and_then(|errno| Ok((errno, if errno.is_none() { channel.receive_files()? } else { Vec::new() })));
    child.wait()?;
    match outcome.map_err(io::Error::other)? {
        (Some(errno), _) => Err(sentence(io::Error::from_raw_os_error(errno), name, address)),
        (None, files) => files
            .into_iter()
            .next()
            .map(TcpStream::from)
            .ok_or_else(|| io::Error::other(format!("the connection to {name} got lost on its way"))),
    }
}

fn sentence(cause: io::Error, name: &str, address: impl Display) -> io::Error {
    let what = match cause.kind() {
        io::ErrorKind::ConnectionRefused => "does not listen",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "is not on the network",
        io::ErrorKind::TimedOut => "does not answer",
        _ => "cannot be connected",
    };
    io::Error::new(cause.kind(), format!("{name} ({address}) {what}: {cause}"))
}

/// The other side: joins the cloud, connects, hands over the socket.
pub(crate) fn connect(channel: &Channel) -> Result<()> {
    let request: Request = channel.receive()?;
    userns::join(request.member)?;
    match connect_until(request.address, Instant::now() + request.patience) {
        Ok(stream) => {
            channel.send(None::<i32>)?;
            channel.send_files(&[stream.as_fd()])
        }
        Err(error) => channel.send(Some(error.raw_os_error().unwrap_or(Errno::ETIMEDOUT as i32))),
    }
}

fn connect_until(address: SocketAddr, deadline: Instant) -> io::Result<TcpStream> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match TcpStream::connect_timeout(&address, left.max(ATTEMPT)) {
            Err(error) if is_worth_waiting(&error) && Instant::now() + PAUSE < deadline => {
                thread::sleep(PAUSE)
            }
            outcome => return outcome,
        }
    }
}

fn is_worth_waiting(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::TimedOut
    )
}
