//! An HTTP/2 client that makes calls and does not read answers: every stream's window is 0 (RFC 9113 §6.9.2), so the answers
//! wait in the agent. It reads everything else, such as refusals; otherwise the test would measure its own back-pressure.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use prost::Message;
use proto::identity::tls;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::TcpStream,
    sync::Mutex,
    task::JoinHandle,
};
use tokio_rustls::client::TlsStream;

use crate::{lab::Pair, raw};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types and flags (RFC 9113 §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// The agent's answers to all calls so far.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    /// Number of answers that have started and wait for this client.
    pub(crate) begun: Arc<AtomicUsize>,
    /// Number of refused calls.
    pub(crate) refused: Arc<AtomicUsize>,
    /// Bytes of answers.
    pub(crate) bytes: Arc<AtomicUsize>,
}

impl Tally {
    pub(crate) fn answered(&self) -> usize {
        self.begun.load(Ordering::Relaxed) + self.refused.load(Ordering::Relaxed)
    }
}

/// A connection with such calls. Dropping it closes the connection.
pub(crate) struct Stalling {
    reading: JoinHandle<io::Result<()>>,
}

impl Drop for Stalling {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Stalling {
    /// Makes `calls` calls; each answer stops after `window` bytes.
    pub(crate) async fn calls(
        address: SocketAddr,
        pair: Pair,
        window: u32,
        calls: u32,
        (path, message): (&str, &impl Message),
        tally: Tally,
    ) -> io::Result<Self> {
        let stream = raw::client(address, Some(pair), Some(tls::ALPN_MAIN)).await?;
        let (reader, mut writer) = split(stream);
        let mut bytes = PREFACE.to_vec();
        // SETTINGS_INITIAL_WINDOW_SIZE.
        bytes.extend(frame(SETTINGS, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat()));
        // The connection's own window must not be the limit.
        bytes.extend(frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()));
        for call in 0..calls {
            let stream = 2 * call + 1;
            bytes.extend(frame(HEADERS, END_HEADERS, stream, &headers(path)));
            let message = message.encode_to_vec();
            let length = u32::try_from(message.len()).expect("short");
            // A gRPC message: not compressed, length, data.
            let body = [&[0][..], &length.to_be_bytes(), &message].concat();
            bytes.extend(frame(DATA, END_STREAM, stream, &body));
        }
        writer.write_all(&bytes).await?;
        writer.flush().await?;
        let writer = Arc::new(Mutex::new(writer));
        Ok(Self { reading: tokio::spawn(read(reader, writer, tally)) })
    }
}

impl Stalling {
    /// Waits until the agent closes the connection.
    pub(crate) async fn ended(&mut self) {
        let _ = (&mut self.reading).await;
    }
}

type Writer = Arc<Mutex<WriteHalf<TlsStream<TcpStream>>>>;

async fn read(mut reader: ReadHalf<TlsStream<TcpStream>>, writer: Writer, tally: Tally) -> io::Result<()> {
    loop {
        let mut header = [0; 9];
        reader.read_exact(&mut header).await?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut body = vec![0; length as usize];
        reader.read_exact(&mut body).await?;
        let answer = match (header[3], header[4]) {
            (HEADERS, flags) if flags & END_STREAM != 0 => {
                tally.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            (HEADERS, _) => {
                tally.begun.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            (DATA, _) => {
                tally.bytes.fetch_add(body.len(), Ordering::Relaxed);
                continue;
            }
            (SETTINGS, flags) if flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[]),
            (PING, flags) if flags & ACK == 0 => frame(PING, ACK, 0, &body),
            _ => continue,
        };
        let mut writer = writer.lock().await;
        writer.write_all(&answer).await?;
        writer.flush().await?;
    }
}

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
}

/// Literal header fields without indexing (RFC 7541 §6.2.2), with names and values whose length fits in one byte.
fn headers(path: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "agent.magpie.internal"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [&[0][..], &text(name), &text(value)].concat()).collect()
}
