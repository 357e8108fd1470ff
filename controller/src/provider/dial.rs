//! Connections over TCP, or through the standard input and output of the user's proxy command.

use std::{
    io, mem,
    pin::Pin,
    process::Stdio,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{Stream, last_words::LastWords};
use crate::{config::ConnectConfig, pauses::Pauses};

/// Timeout of one attempt.
const ATTEMPT: Duration = Duration::from_secs(3);
/// First and longest pause between attempts.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];
/// Time for a command to exit after it has closed its output.
const ENDING: Duration = Duration::from_millis(500);

/// Connects to a host by its address: through the proxy command if one is configured (see [`through`]), else over
/// TCP (see [`tcp_until`]).
///
/// # Errors
/// The error of the last attempt.
pub(super) async fn to(
    connect: &ConnectConfig,
    address: &str,
    port: u16,
    deadline: Instant,
) -> io::Result<Stream> {
    match &connect.proxy {
        Some(command) => through(command, address, port),
        None => tcp_until(address, port, deadline).await,
    }
}

/// Connects to `address`, which may be a host name. Retries until `deadline`, but tries at least once.
///
/// # Errors
/// The error of the last attempt.
async fn tcp_until(address: &str, port: u16, deadline: Instant) -> io::Result<Stream> {
    let mut pauses = Pauses::new(PAUSES[0], PAUSES[1]);
    loop {
        match tcp(address, port).await {
            Ok(stream) => return Ok(stream),
            Err(error) if !pauses.pause_before(deadline).await => return Err(error),
            Err(_) => {}
        }
    }
}

async fn tcp(address: &str, port: u16) -> io::Result<Stream> {
    let stream = timeout(ATTEMPT, TcpStream::connect((address, port))).await??;
    // HTTP/2 writes small frames; Nagle's algorithm would hold the second one back until the host's delayed
    // acknowledgement of the first, 40 ms later (tcp(7)).
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

/// Starts `command` in the shell, with `%h`, `%p` and `%%` replaced as for ProxyCommand in ssh_config(5).
///
/// Starting the command does not show whether the host is reachable. If the command exits before its first byte of
/// output, reading fails with `ConnectionRefused`, the exit status, and the last lines of standard error.
///
/// # Errors
/// The shell cannot be started.
fn through(command: &str, host: &str, port: u16) -> io::Result<Stream> {
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("exec {}", expand(command, host, port)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let missing = || io::Error::other("the proxy command has no standard input, output or error");
    let input = child.stdin.take().ok_or_else(missing)?;
    let output = child.stdout.take().ok_or_else(missing)?;
    let said = LastWords::of(child.stderr.take().ok_or_else(missing)?);
    Ok(Box::new(Proxied { input, output, phase: Phase::Silent(child, said) }))
}

fn expand(command: &str, host: &str, port: u16) -> String {
    let (mut text, mut rest) = (String::new(), command);
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let (with, length) = match after.as_bytes().first() {
            Some(b'h') => (host.to_owned(), 1),
            Some(b'p') => (port.to_string(), 1),
            Some(b'%') => ("%".to_owned(), 1),
            _ => ("%".to_owned(), 0),
        };
        text.push_str(&with);
        rest = &after[length..];
    }
    text + rest
}

/// A command as a stream; dropping the stream kills the command.
struct Proxied {
    input: ChildStdin,
    output: ChildStdout,
    phase: Phase,
}

/// State of a command.
enum Phase {
    /// No output yet.
    Silent(Child, LastWords),
    /// Closed its output without a byte; the reason is being collected.
    Ending(Pin<Box<dyn Future<Output = io::Error> + Send>>),
    /// Has produced output: the end of its output is the end of the connection.
    Heard(#[expect(dead_code, reason = "the command is killed when this is dropped")] Child),
    /// The error was returned.
    Over,
}

/// The error for a command that closed its output without a byte.
async fn reason(mut child: Child, said: LastWords) -> io::Error {
    let how = match timeout(ENDING, child.wait()).await {
        Ok(Ok(status)) => format!("ended ({status})"),
        _ => "closed its output".to_owned(),
    };
    let said = said.told().await;
    let said = if said.is_empty() { said } else { format!(": {said}") };
    io::Error::new(io::ErrorKind::ConnectionRefused, format!("the proxy command {how}{said}"))
}

impl AsyncRead for Proxied {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Phase::Silent(..) | Phase::Heard(_) = this.phase {
            let (before, room) = (buf.filled().len(), buf.remaining());
            ready!(Pin::new(&mut this.output).poll_read(cx, buf))?;
            let ended = room > 0 && buf.filled().len() == before;
            this.phase = match (mem::replace(&mut this.phase, Phase::Over), ended) {
                (Phase::Silent(child, said), true) => Phase::Ending(Box::pin(reason(child, said))),
                (Phase::Silent(child, _), false) if room > 0 => Phase::Heard(child),
                (other, _) => other,
            };
        }
        if let Phase::Ending(reason) = &mut this.phase {
            let error = ready!(reason.as_mut().poll(cx));
            this.phase = Phase::Over;
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Proxied {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.input).poll_write(cx, buf));
        let silent = !matches!(this.phase, Phase::Heard(_));
        Poll::Ready(match written {
            // The reader reports the reason once the output ends.
            Err(error) if silent && error.kind() == io::ErrorKind::BrokenPipe => Ok(buf.len()),
            written => written,
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().input).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().input).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn a_proxy_command_gets_host_and_port() {
        assert_eq!(expand("ssh -W %h:%p bastion", "10.0.0.7", 717), "ssh -W 10.0.0.7:717 bastion");
        assert_eq!(expand("x %% %h%p %x é%", "h", 1), "x % h1 %x é%");
    }

    #[tokio::test]
    async fn a_command_is_a_connection() {
        let mut stream = through("cat", "", 0).expect("started");
        stream.write_all(b"hello").await.expect("written");
        let mut echo = [0; 5];
        stream.read_exact(&mut echo).await.expect("read");
        assert_eq!(&echo, b"hello");
    }

    #[tokio::test]
    async fn a_command_that_fails_says_why_however_much_was_written() {
        let command = "sh -c 'echo first >&2; echo no route >&2; exit 7'";
        let mut stream = through(command, "", 0).expect("started");
        for _ in 0..100 {
            stream.write_all(&[7; 1 << 16]).await.expect("taken");
        }
        let error = stream.read(&mut [0; 1]).await.expect_err("nobody is there");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(error.to_string(), "the proxy command ended (exit status: 7): first; no route");
    }

    #[tokio::test]
    async fn what_a_command_leaves_behind_does_not_keep_its_end() {
        let mut stream = through("sh -c 'sleep 5 >/dev/null & exit 1'", "", 0).expect("started");
        let began = Instant::now();
        stream.read(&mut [0; 1]).await.expect_err("nobody is there");
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn an_end_after_the_first_byte_is_an_end() {
        let mut stream = through("sh -c 'echo; exit 1'", "", 0).expect("started");
        assert_eq!(stream.read(&mut [0; 9]).await.expect("a byte"), 1);
        assert_eq!(stream.read(&mut [0; 9]).await.expect("an end"), 0);
        assert_eq!(stream.read(&mut [0; 9]).await.expect("still"), 0);
    }
}
