//! The History service: blocks as they lie on disk, and new samples as they come. It reads files only; whether a
//! recorder runs is none of its business.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    pin::Pin,
};

use inotify::{EventStream, Inotify, WatchMask};
use proto::{
    history::{Block, Contents, glance},
    pb::{self, FollowRequest, InfoReply, InfoRequest, ReadRequest, history_server},
};
use tokio::{sync::mpsc::Sender, task::spawn_blocking};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use crate::{
    history::{self, Filter, Follower, Policy, Reader, StoredBlock},
    paths::Paths,
};

/// Blocks that wait for a slow caller: bounds memory.
const BACKLOG: usize = 4;

/// Serves the record below `paths`.
#[derive(Clone, Debug)]
pub struct Service {
    directory: PathBuf,
}

impl Service {
    /// For the record of this agent, which need not exist yet.
    pub fn new(paths: &Paths) -> Self {
        Self { directory: paths.history() }
    }
}

type Reply = Result<pb::Block, Status>;
type Blocks = Pin<Box<dyn Stream<Item = Reply> + Send>>;

#[tonic::async_trait]
impl history_server::History for Service {
    type ReadStream = Blocks;
    type FollowStream = Blocks;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Blocks>, Status> {
        let ReadRequest { from_unix_ms, until_unix_ms, pids, contents } = request.into_inner();
        let until_ms = if until_unix_ms == 0 { i64::MAX } else { until_unix_ms };
        let contents = u8::try_from(contents).map(Contents);
        let contents = contents.map_err(|_| Status::invalid_argument("contents are bits of one byte"))?;
        let filter = Filter { from_ms: from_unix_ms, until_ms, pids: pids.into_iter().collect(), contents };
        let (sender, blocks) = tokio::sync::mpsc::channel(BACKLOG);
        let reader = Reader::new(&self.directory);
        spawn_blocking(move || {
            send_stored(&reader, filter, &sender);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(blocks))))
    }

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Blocks>, Status> {
        let from_ms = request.into_inner().from_unix_ms;
        let events =
            self.watch().map_err(|error| Status::internal(format!("cannot watch the record: {error}")))?;
        let (sender, blocks) = tokio::sync::mpsc::channel(BACKLOG);
        tokio::spawn(send_new(self.directory.clone(), from_ms, events, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(blocks))))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoReply>, Status> {
        let directory = self.directory.clone();
        let info = spawn_blocking(move || info(&directory)).await;
        let info = info.map_err(|error| Status::internal(error.to_string()))?;
        info.map(Response::new).map_err(|error| failed(&error))
    }
}

impl Service {
    /// Everything that happens in the record's directory from now on.
    fn watch(&self) -> std::io::Result<EventStream<[u8; 1024]>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let inotify = Inotify::init()?;
        inotify.watches().add(&self.directory, WatchMask::MODIFY | WatchMask::MOVED_TO)?;
        inotify.into_event_stream([0; 1024])
    }
}

/// Sends stored blocks until the caller goes away; returns the number of the last sample sent.
fn send_stored(reader: &Reader, filter: Filter, sender: &Sender<Reply>) -> Option<u64> {
    let blocks = match reader.filtered(filter) {
        Ok(blocks) => blocks,
        Err(error) => {
            let _ = sender.blocking_send(Err(failed(&error)));
            return None;
        }
    };
    let mut last = None;
    for block in blocks {
        if let Ok(block) = block.as_ref().map(|block| block.data.as_slice())
            && let Ok(block) = Block::parse(block)
        {
            last = Some(block.header.last_sequence());
        }
        if sender.blocking_send(block.map(message).map_err(|error| failed(&error))).is_err() {
            break;
        }
    }
    last
}

/// First what is stored since `from_ms` (0: nothing), then what is appended, until the caller goes away.
async fn send_new(
    directory: PathBuf,
    from_ms: i64,
    mut events: EventStream<[u8; 1024]>,
    sender: Sender<Reply>,
) {
    let history = sender.clone();
    let start = move || {
        let reader = Reader::new(&directory);
        let stored = || send_stored(&reader, Filter::between(from_ms, i64::MAX), &history);
        let last = if from_ms == 0 { None } else { stored() };
        Follower::new(&directory, last)
    };
    let mut follower = match spawn_blocking(start).await {
        Ok(Ok(follower)) => follower,
        Ok(Err(error)) => {
            let _ = sender.send(Err(failed(&error))).await;
            return;
        }
        Err(_) => return,
    };
    loop {
        let looked = spawn_blocking(move || {
            let blocks = follower.poll();
            (follower, blocks)
        });
        let Ok((next, blocks)) = looked.await else { return };
        follower = next;
        let replies = match blocks {
            Ok(blocks) => blocks.into_iter().map(message).map(Ok).collect(),
            Err(error) => vec![Err(failed(&error))],
        };
        for reply in replies {
            let ends = reply.is_err();
            if sender.send(reply).await.is_err() || ends {
                return;
            }
        }
        // Events that came meanwhile are waiting here, so that none is missed.
        tokio::select! {
            event = events.next() => if event.is_none_or(|event| event.is_err()) { return },
            () = sender.closed() => return,
        }
    }
}

fn message(block: StoredBlock) -> pb::Block {
    pb::Block { data: block.data, lost: block.lost }
}

fn failed(error: &history::Error) -> Status {
    Status::internal(error.to_string())
}

/// The record at a glance, from the headers of its blocks.
fn info(directory: &Path) -> Result<InfoReply, history::Error> {
    let (headers, lost) = Reader::new(directory).headers()?;
    let status = history::status(directory)?;
    let policy = Policy::default();
    Ok(InfoReply {
        bytes: status.bytes,
        max_bytes: policy.max_bytes,
        max_age_s: policy.max_age.as_secs(),
        lost,
        recorder: Some(recorder(&status)),
        ..glance::info(&headers)
    })
}

/// What the host's status says of the recorder.
pub fn recorder_status(paths: &Paths) -> Result<pb::Recorder, history::Error> {
    Ok(recorder(&history::status(&paths.history())?))
}

fn recorder(status: &history::Status) -> pb::Recorder {
    let newest = status.newest.as_ref().map(glance::recorder).unwrap_or_default();
    pb::Recorder { running: status.running, bytes: status.bytes, ..newest }
}

#[cfg(test)]
mod tests {
    use proto::history::{BootId, Encoder, Limits, Sample};

    use super::{history_server::History, *};
    use crate::history::Writer;

    struct Recorder {
        writer: Writer,
        encoder: Encoder,
    }

    fn recorder_of(paths: &Paths) -> Recorder {
        let block = Limits { records: 4, bytes: 64 << 10 };
        let policy = Policy { block, ..Policy::default() };
        let writer = Writer::open(&paths.history(), BootId::default(), 0, policy).unwrap().0;
        Recorder { writer, encoder: Encoder::new(block) }
    }

    fn append(recorder: &mut Recorder, seconds: std::ops::Range<i64>) {
        for second in seconds {
            let mut record = Vec::new();
            let boottime_ns = second as u64 * 1_000_000_000;
            let sample =
                Sample { wall_ms: second * 1_000, boottime_ns, interval_ms: 1_000, ..Sample::default() };
            recorder.encoder.encode(&sample, &mut record);
            recorder.writer.append(&record).unwrap();
        }
    }

    /// The seconds of the next samples, until there are `count`, or the stream ends.
    async fn receive(blocks: &mut Blocks, count: usize) -> Vec<i64> {
        let mut seconds = Vec::new();
        while seconds.len() < count
            && let Some(block) = blocks.next().await
        {
            let block = block.unwrap();
            assert_eq!(block.lost, Vec::<String>::new());
            let samples = Block::parse(&block.data).unwrap().samples().unwrap();
            seconds.extend(samples.map(|sample| sample.unwrap().wall_ms / 1_000));
        }
        seconds
    }

    #[tokio::test]
    async fn a_range_is_read_in_blocks() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        append(&mut recorder_of(&paths), 1..11);
        let request = ReadRequest { from_unix_ms: 6_000, ..ReadRequest::default() };
        let mut blocks = Service::new(&paths).read(Request::new(request)).await.unwrap().into_inner();
        assert_eq!(receive(&mut blocks, usize::MAX).await, [5, 6, 7, 8, 9, 10]);
    }

    #[tokio::test]
    async fn new_samples_are_followed_from_now_or_from_then() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        let service = Service::new(&paths);
        let mut writer = recorder_of(&paths);
        append(&mut writer, 1..7);
        for (from_unix_ms, expected) in [(0, vec![]), (6_000, vec![5, 6])] {
            let request = Request::new(FollowRequest { from_unix_ms });
            let mut blocks = service.follow(request).await.unwrap().into_inner();
            assert_eq!(receive(&mut blocks, expected.len()).await, expected);
        }
        let mut from_then =
            service.follow(Request::new(FollowRequest { from_unix_ms: 1 })).await.unwrap().into_inner();
        assert_eq!(receive(&mut from_then, 6).await, (1..7).collect::<Vec<_>>());
        append(&mut writer, 7..20);
        assert_eq!(receive(&mut from_then, 13).await, (7..20).collect::<Vec<_>>());
    }

    #[test]
    fn the_status_tells_whether_someone_records() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        assert!(!recorder_status(&paths).unwrap().running);
        let mut writer = recorder_of(&paths);
        append(&mut writer, 3..4);
        let status = recorder_status(&paths).unwrap();
        assert!(status.running && status.bytes > 0);
        assert_eq!((status.last_sample_unix_ms, status.collector.as_str()), (3_000, "proc"));
    }

    #[test]
    fn the_record_is_told_at_a_glance() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        let mut writer = recorder_of(&paths);
        append(&mut writer, 1..11);
        append(&mut writer, 15..16);
        append(&mut writer, 50..51);
        let info = info(&paths.history()).unwrap();
        assert_eq!((info.oldest_unix_ms, info.newest_unix_ms), (1_000, 50_000));
        assert_eq!((info.samples, info.blocks, info.restarts), (12, 3, 0));
        let gaps: Vec<_> = info.gaps.iter().map(|gap| gap.length_ms).collect();
        assert_eq!(gaps, [35_000], "of each block the longest");
        assert_eq!(info.lost, Vec::<String>::new());
    }
}
