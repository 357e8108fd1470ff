//! Pushes a bundle to one host, sending only the missing files.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, Write},
    mem,
    path::PathBuf,
};

use proto::{
    bundle::{Blob, CHUNK_BYTES, Digest, MAX_MANIFEST_BYTES, PackError, pack},
    pb::{self, bundles_client::BundlesClient, upload_request::Part},
    units::size,
};
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

use super::Bundle;
use crate::{
    client::status::{LONG_ANSWER, within},
    error::{Error, Kind, Result},
};

/// Number of pieces buffered between compression and the network: 2 MiB.
const PIECES_AHEAD: usize = 8;

/// The result of a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Bytes sent for blobs and manifest, compressed.
    pub sent_bytes: u64,
    /// Bytes in the files that were sent, before compression.
    pub content_bytes: u64,
    /// Bytes in all files of the bundle, counting each content once.
    pub total_bytes: u64,
    /// Number of blobs that the host lacked.
    pub blobs_sent: usize,
    /// Number of files in the bundle.
    pub files: usize,
    /// Whether the host already had the whole bundle.
    pub already_there: bool,
    /// Older bundles that the host removed to make room.
    pub removed: Vec<String>,
}

impl fmt::Display for Pushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sent {} of {}", size(self.content_bytes), size(self.total_bytes))?;
        match self.sent_bytes {
            0 => Ok(()),
            bytes => write!(f, " ({} on the wire)", size(bytes)),
        }
    }
}

/// Pushes `bundle` over `channel`. An unchanged bundle costs one small message. If the host lost the offer (agent
/// restart or cleanup), it is sent again once.
///
/// # Errors
/// A file changed during the push, or the host refused the bundle or could not be reached.
pub async fn push(channel: Channel, bundle: &Bundle) -> Result<Pushed> {
    let mut client = BundlesClient::new(channel).max_decoding_message_size(MAX_MANIFEST_BYTES);
    match attempt(&mut client, bundle).await {
        Err(Failure::Status(status)) if status.code() == Code::Aborted => attempt(&mut client, bundle).await,
        other => other,
    }
    .map_err(|failure| match failure {
        Failure::Own(error) => error,
        Failure::Status(status) => refused(&status),
    })
}

/// Why an attempt failed: a local error, or the host's status.
enum Failure {
    Own(Error),
    Status(Status),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

async fn attempt(
    client: &mut BundlesClient<Channel>,
    bundle: &Bundle,
) -> std::result::Result<Pushed, Failure> {
    let mut pushed = Pushed {
        total_bytes: bundle.manifest().blobs().iter().map(|blob| blob.size).sum(),
        files: bundle.manifest().files().count(),
        ..Pushed::default()
    };
    let mut offer = pb::OfferRequest {
        digest: bundle.digest().to_string(),
        manifest: Vec::new(),
        provenance: Some(bundle.provenance().clone().into()),
    };
    let mut answer = within(LONG_ANSWER, client.offer(offer.clone())).await?;
    if answer.manifest_wanted {
        offer.manifest = bundle.manifest().encode();
        pushed.sent_bytes += offer.manifest.len() as u64;
        answer = within(LONG_ANSWER, client.offer(offer)).await?;
    }
    if answer.present {
        pushed.already_there = true;
        return Ok(pushed);
    }
    let wanted = wanted(bundle, &answer.missing).map_err(Failure::Own)?;
    pushed.blobs_sent = wanted.len();
    pushed.content_bytes = wanted.iter().map(|(blob, _)| blob.size).sum();
    upload(client, bundle, wanted, pushed).await
}

/// A blob and its path on this machine.
type Source = (Blob, PathBuf);

/// Looks up the blobs that the host requested.
fn wanted(bundle: &Bundle, missing: &[Vec<u8>]) -> Result<Vec<Source>> {
    let known: HashMap<Digest, Blob> =
        bundle.manifest().blobs().into_iter().map(|blob| (blob.digest, blob)).collect();
    let source = |bytes: &Vec<u8>| {
        let blob = known.get(&Digest::try_from(bytes.as_slice()).ok()?)?;
        Some((*blob, bundle.blob_path(blob)?.to_owned()))
    };
    let sources: Option<Vec<Source>> = missing.iter().map(source).collect();
    sources.ok_or_else(|| Error::new(Kind::RunFailed, "the host requested a file that is not in the bundle"))
}

/// Packs on a blocking thread into a bounded channel, so that reading and compressing continue while the network is
/// busy.
async fn upload(
    client: &mut BundlesClient<Channel>,
    bundle: &Bundle,
    wanted: Vec<Source>,
    mut pushed: Pushed,
) -> std::result::Result<Pushed, Failure> {
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    let header = Part::Header(pb::UploadHeader { digest: bundle.digest().to_string() });
    let digest_paths: HashMap<Digest, String> =
        bundle.manifest().files().map(|(path, _, blob)| (blob.digest, path.to_owned())).collect();
    let packing = spawn_blocking(move || {
        let out = Pieces { sender, piece: Vec::with_capacity(CHUNK_BYTES), sent: 0 };
        out.send(header).map_err(PackError::Write)?;
        let blobs: Vec<Blob> = wanted.iter().map(|(blob, _)| *blob).collect();
        let mut paths = wanted.into_iter().map(|(_, path)| path);
        let open = |_: &Blob| File::open(paths.next().expect("one path for each blob, in the same order"));
        pack(&blobs, open, out).map(|out| out.sent)
    });
    let reply = client.upload(ReceiverStream::new(receiver)).await;
    match packing.await.expect("packing does not panic") {
        Ok(sent) => pushed.sent_bytes += sent,
        Err(PackError::Write(_)) => {} // The host closed the stream; its reply says why.
        Err(PackError::Read { digest, source }) => {
            return Err(Failure::Own(Error::invalid(format!(
                "cannot read `{}`: {source}",
                digest_paths[&digest]
            ))));
        }
        Err(PackError::Changed { digest }) => {
            let path = &digest_paths[&digest];
            return Err(Failure::Own(
                Error::invalid(format!("`{path}` changed during the push")).hint("run the command again"),
            ));
        }
    }
    pushed.removed = reply?.into_inner().removed;
    Ok(pushed)
}

/// Cuts the stream into messages.
struct Pieces {
    sender: mpsc::Sender<pb::UploadRequest>,
    piece: Vec<u8>,
    sent: u64,
}

impl Pieces {
    fn send(&self, part: Part) -> io::Result<()> {
        let request = pb::UploadRequest { part: Some(part) };
        self.sender.blocking_send(request).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == CHUNK_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = mem::replace(&mut self.piece, Vec::with_capacity(CHUNK_BYTES));
        self.sent += piece.len() as u64;
        self.send(Part::Data(piece))
    }
}

fn refused(status: &Status) -> Error {
    let message = format!("the host refused the bundle: {}", status.message());
    match status.code() {
        Code::InvalidArgument => Error::invalid(message),
        Code::ResourceExhausted => {
            Error::new(Kind::RunFailed, message).hint("free disk space on the host and run the command again")
        }
        Code::PermissionDenied => Error::unreachable(message).hint("pushing needs the user role operator"),
        _ => Error::unreachable(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_bundle() {
        let pushed =
            Pushed { sent_bytes: 9_913, content_bytes: 17_203, total_bytes: 38 << 20, ..Pushed::default() };
        assert_eq!(pushed.to_string(), "sent 17 KiB of 38 MiB (9.7 KiB on the wire)");
        assert_eq!(Pushed { sent_bytes: 0, ..pushed }.to_string(), "sent 17 KiB of 38 MiB");
    }
}
