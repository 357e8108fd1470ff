//! Connections over TCP, or through a command of the user's whose standard input and output are the connection.

use std::{
    io,
    pin::Pin,
    process::Stdio,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{sleep, timeout},
};

use super::Stream;

/// The longest time that one attempt gets.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Between attempts: doubled by each, up to the last.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];

/// Connects to `address`, which may be a name, again and again until `deadline`; at least once.
///
/// # Errors
/// What the last attempt ended with.
pub async fn tcp_until(address: &str, port: u16, deadline: Instant) -> io::Result<Stream> {
    let mut pause = PAUSES[0];
    loop {
        match tcp(address, port).await {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() + pause >= deadline => return Err(error),
            Err(_) => sleep(pause).await,
        }
        pause = (pause * 2).min(PAUSES[1]);
    }
}

async fn tcp(address: &str, port: u16) -> io::Result<Stream> {
    let stream = timeout(ATTEMPT, TcpStream::connect((address, port))).await??;
    // HTTP/2 writes one small frame after another; Nagle's algorithm would keep the second until the host's
    // delayed acknowledgement of the first, 40 ms later (tcp(7)).
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

/// Starts `command` by the shell, with `%h` and `%p` replaced and `%%` for a percent sign, as ssh_config(5) has
/// it for ProxyCommand. Its standard error is the user's.
///
/// # Errors
/// The shell cannot be started. That the command fails shows as an end of the stream.
pub fn through(command: &str, host: &str, port: u16) -> io::Result<Stream> {
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("exec {}", expand(command, host, port)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let missing = || io::Error::other("the proxy command has no standard input or output");
    let input = child.stdin.take().ok_or_else(missing)?;
    let output = child.stdout.take().ok_or_else(missing)?;
    Ok(Box::new(Proxied { input, output, _child: child }))
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

/// A command as a stream; it ends with it.
struct Proxied {
    input: ChildStdin,
    output: ChildStdout,
    _child: Child,
}

impl AsyncRead for Proxied {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().output).poll_read(cx, buf)
    }
}

impl AsyncWrite for Proxied {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().input).poll_write(cx, buf)
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
    async fn a_command_that_fails_is_an_end() {
        let mut stream = through("false", "", 0).expect("started");
        assert_eq!(stream.read(&mut [0; 1]).await.expect("an end"), 0);
    }
}
