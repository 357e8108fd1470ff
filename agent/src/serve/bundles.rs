//! The `Bundles` service: converts between messages and the [`Store`].

use std::{
    collections::BTreeSet,
    io::{self, Read},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use proto::{
    bundle::{CHUNK_BYTES, Digest, MAX_MANIFEST_BYTES, UnpackError},
    pb::{self, bundles_server::BundlesServer, upload_request::Part},
};
use tokio::{sync::mpsc, task::spawn_blocking, time::timeout};
use tonic::{Request, Response, Status, Streaming};

use super::{
    runs::caller,
    shares::{Bounds, Places},
};
use crate::bundles::{Answer, Error, Store};

/// How long an upload may pause; received bytes extend this, so that 8 KiB/s is always fast enough.
const PATIENCE: Duration = Duration::from_secs(60);
const LEAST_RATE: u32 = 8 << 10;

/// Limits on concurrent uploads: each takes a thread.
const UPLOADS: Bounds = Bounds { all: 8, kept: 0, each: 4 };

/// Pieces buffered between network and disk: 2 MiB.
const PIECES_AHEAD: usize = 8;

/// Returns the bundles that a running apply uses.
type InUse = dyn Fn() -> BTreeSet<Digest> + Send + Sync;

/// The service for one store.
pub struct Service {
    store: Arc<Store>,
    in_use: Arc<InUse>,
    uploads: Places,
}

impl Service {
    /// A service for `store`. Calls `in_use` on a blocking thread before it removes old bundles.
    pub fn new(store: Arc<Store>, in_use: impl Fn() -> BTreeSet<Digest> + Send + Sync + 'static) -> Self {
        Self { store, in_use: Arc::new(in_use), uploads: Places::new(UPLOADS) }
    }

    /// The tonic service with its own message limit: a manifest is larger than any other message.
    pub fn into_server(self) -> BundlesServer<Self> {
        BundlesServer::new(self).max_decoding_message_size(MAX_MANIFEST_BYTES + (1 << 20))
    }
}

#[tonic::async_trait]
impl pb::bundles_server::Bundles for Service {
    async fn offer(&self, request: Request<pb::OfferRequest>) -> Result<Response<pb::OfferReply>, Status> {
        let request = request.into_inner();
        let digest = parse(&request.digest)?;
        let store = Arc::clone(&self.store);
        let reply = blocking(move || {
            let provenance = request.provenance.unwrap_or_default().into();
            if request.manifest.is_empty() {
                let present = store.again(&digest, &provenance, SystemTime::now())?;
                return Ok(pb::OfferReply { present, manifest_wanted: !present, missing: Vec::new() });
            }
            Ok(match store.offer(digest, &request.manifest, provenance, SystemTime::now())? {
                Answer::Present => pb::OfferReply { present: true, ..Default::default() },
                Answer::Missing(blobs) => pb::OfferReply {
                    missing: blobs.iter().map(|blob| blob.digest.as_bytes().to_vec()).collect(),
                    ..Default::default()
                },
            })
        });
        Ok(Response::new(reply.await?))
    }

    async fn upload(
        &self,
        request: Request<Streaming<pb::UploadRequest>>,
    ) -> Result<Response<pb::UploadReply>, Status> {
        let place = self.uploads.take(&caller(&request)?);
        let place = place.map_err(|_| Status::resource_exhausted("too many uploads; retry later"))?;
        let mut stream = Incoming { stream: request.into_inner(), patience: Patience::default() };
        let Some(Part::Header(header)) = stream.next_part().await? else {
            return Err(Status::invalid_argument("the first message of an upload must be its header"));
        };
        let digest = parse(&header.digest)?;
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        let (store, in_use) = (Arc::clone(&self.store), Arc::clone(&self.in_use));
        let received = spawn_blocking(move || {
            let _place = place;
            store.receive(digest, Pieces { receiver, piece: Vec::new(), at: 0 }, SystemTime::now())?;
            let mut in_use = in_use();
            in_use.insert(digest);
            store.retain(&in_use)
        });
        let fed = feed(&mut stream, sender).await;
        let removed = received.await.map_err(|panic| Status::internal(panic.to_string()))?;
        // The sender's error explains more than an incomplete stream does.
        fed?;
        let removed = removed.map_err(status)?.iter().map(Digest::to_string).collect();
        Ok(Response::new(pb::UploadReply { removed }))
    }
}

/// Forwards pieces until the stream ends or the store stops reading.
async fn feed(stream: &mut Incoming, sender: mpsc::Sender<io::Result<Vec<u8>>>) -> Result<(), Status> {
    loop {
        let piece = match stream.next_part().await {
            Ok(None) => return Ok(()),
            Ok(Some(Part::Data(piece))) if piece.len() <= CHUNK_BYTES => piece,
            Ok(Some(_)) => {
                stop(&sender).await;
                return Err(Status::invalid_argument(format!(
                    "after the header, an upload contains only data, in pieces of at most {CHUNK_BYTES} bytes"
                )));
            }
            Err(status) => {
                stop(&sender).await;
                return Err(status);
            }
        };
        if sender.send(Ok(piece)).await.is_err() {
            return Ok(());
        }
    }
}

/// Makes the store's reader fail, so that an interrupted upload is never mistaken for a complete one.
async fn stop(sender: &mpsc::Sender<io::Result<Vec<u8>>>) {
    // The send fails only if the store no longer reads; then there is nothing to report.
    let _ = sender.send(Err(io::ErrorKind::ConnectionAborted.into())).await;
}

/// An incoming upload, and the remaining time to wait for it.
struct Incoming {
    stream: Streaming<pb::UploadRequest>,
    patience: Patience,
}

impl Incoming {
    async fn next_part(&mut self) -> Result<Option<Part>, Status> {
        let began = Instant::now();
        let received = timeout(self.patience.left, self.stream.message()).await;
        let Ok(received) = received else {
            return Err(Status::deadline_exceeded(format!(
                "the upload is too slow: below {} KiB/s for {} s",
                LEAST_RATE >> 10,
                PATIENCE.as_secs()
            )));
        };
        let Some(request) = received? else { return Ok(None) };
        let part = request.part.ok_or_else(|| Status::invalid_argument("an upload message is empty"))?;
        let bytes = if let Part::Data(piece) = &part { piece.len() } else { 0 };
        self.patience.account(began.elapsed(), bytes);
        Ok(Some(part))
    }
}

/// The remaining time to wait for a sender. Time spent waiting for the disk does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Patience {
    left: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { left: PATIENCE }
    }
}

impl Patience {
    /// Records that waiting for `waited` brought `bytes` bytes.
    fn account(&mut self, waited: Duration, bytes: usize) {
        let earned = Duration::from_secs_f64(bytes as f64 / f64::from(LEAST_RATE));
        self.left = (self.left.saturating_sub(waited) + earned).min(PATIENCE);
    }
}

/// The pieces of an upload as one `Read`, for a blocking thread.
struct Pieces {
    receiver: mpsc::Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(piece) => (self.piece, self.at) = (piece?, 0),
            }
        }
        let length = buffer.len().min(self.piece.len() - self.at);
        buffer[..length].copy_from_slice(&self.piece[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

fn parse(digest: &str) -> Result<Digest, Status> {
    digest.parse().map_err(|error| Status::invalid_argument(format!("{error}")))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Status> {
    let done = spawn_blocking(work).await.map_err(|panic| Status::internal(panic.to_string()))?;
    done.map_err(status)
}

/// The status code tells the controller what to do: `ABORTED` means that it should offer the bundle again.
fn status(error: Error) -> Status {
    let sentence = error.to_string();
    match error {
        full if full.is_full() => Status::resource_exhausted(sentence),
        Error::Upload(UnpackError::Write { .. }) | Error::Io { .. } => Status::internal(sentence),
        Error::Manifest(_) | Error::OtherManifest { .. } | Error::Upload(_) => {
            Status::invalid_argument(sentence)
        }
        Error::NotOffered { .. } | Error::BlobGone { .. } | Error::Damaged { .. } => {
            Status::aborted(sentence)
        }
        Error::Absent { .. } => Status::not_found(sentence),
        Error::NoSpace { .. } => Status::resource_exhausted(sentence),
    }
}

#[cfg(test)]
mod tests;
