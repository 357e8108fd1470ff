//! Connections into the cloud. A process inside the cloud's network namespace opens the socket and passes it out; a
//! socket stays in the namespace in which it was created (network_namespaces(7)).

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

/// Shortest timeout of an attempt.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Pause between attempts; a refused connection costs only microseconds.
const PAUSE: Duration = Duration::from_millis(3);

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    /// A process in the cloud.
    member: u32,
    address: SocketAddr,
    /// How long to retry while the port is closed; zero means one attempt.
    patience: Duration,
}

/// Connects to `address` inside the cloud of process `member`. The error keeps its kind, so that the caller can tell
/// "not yet" from "never"; `name` is used in its message.
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
            .ok_or_else(|| io::Error::other(format!("the connection to {name} was lost"))),
    }
}

fn sentence(cause: io::Error, name: &str, address: impl Display) -> io::Error {
    let what = match cause.kind() {
        io::ErrorKind::ConnectionRefused => "does not listen".to_owned(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "is not on the network".to_owned()
        }
        io::ErrorKind::TimedOut => "does not answer".to_owned(),
        _ => format!("cannot be reached: {cause}"),
    };
    io::Error::new(cause.kind(), format!("{name} ({address}) {what}"))
}

/// The step itself: joins the cloud, connects, and passes the socket out.
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
