//! The History service: sends blocks as stored on disk, and new samples as they are recorded. Reads only files, so it also
//! works without a running recorder.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
};

use proto::{
    glance,
    pb::{self, FollowRequest, InfoReply, InfoRequest, ReadRequest, history_server},
};
use record::{
    Contents,
    directory::{self, Blocks as StoredBlocks, Filter, Follower, Policy, Reader, StoredBlock},
};
use tokio::sync::{
    mpsc::{Sender, channel},
    watch,
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{changes::Changes, disk::Disk};
use crate::paths::Paths;

/// Number of blocks that wait for a slow caller: the next block is read while one is sent.
const BACKLOG: usize = 1;

/// Serves the record below `paths`.
#[derive(Clone, Debug)]
pub struct Service {
    directory: PathBuf,
    disk: Disk,
    changes: Changes,
}

impl Service {
    /// Service for the agent's record, which need not exist yet.
    pub fn new(paths: &Paths, disk: Disk) -> Self {
        Self { directory: paths.history(), disk, changes: Changes::new(paths.history()) }
    }
}

type Reply = Result<pb::Block, Status>;
type Blocks = Pin<Box<dyn Stream<Item = Reply> + Send>>;

#[tonic::async_trait]
impl history_server::History for Service {
    type ReadStream = Blocks;
    type FollowStream = Blocks;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Blocks>, Status> {
        let filter = wanted(request.into_inner())?;
        let service = self.clone();
        Ok(streamed(|to| async move { service.send_stored(filter, &to).await.map(drop) }))
    }

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Blocks>, Status> {
        let from_ms = request.into_inner().from_unix_ms;
        let changes = self.changes.follow();
        let changes =
            changes.map_err(|error| Status::internal(format!("cannot watch the record: {error}")))?;
        let service = self.clone();
        Ok(streamed(|to| async move { service.send_new(from_ms, changes, &to).await }))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoReply>, Status> {
        let directory = self.directory.clone();
        let info = self.disk.look(move || info(&directory)).await?;
        info.map(Response::new).map_err(failed)
    }
}

/// Converts a request to a filter; 0 means no limit.
fn wanted(request: ReadRequest) -> Result<Filter, Status> {
    let ReadRequest { from_unix_ms, until_unix_ms, pids, contents } = request;
    let contents = u8::try_from(contents).map(Contents);
    let contents =
        contents.map_err(|_| Status::invalid_argument("contents must be a number from 0 to 255"))?;
    Ok(Filter {
        from_ms: if from_unix_ms == 0 { i64::MIN } else { from_unix_ms },
        until_ms: if until_unix_ms == 0 { i64::MAX } else { until_unix_ms },
        pids: pids.into_iter().collect(),
        contents,
    })
}

/// An answer with the blocks that `send` sends, until `send` ends or the caller disconnects.
fn streamed<F>(send: impl FnOnce(Sender<Reply>) -> F) -> Response<Blocks>
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (sender, blocks) = channel(BACKLOG);
    let sending = send(sender.clone());
    tokio::spawn(async move {
        let sent = tokio::select! {
            sent = sending => sent,
            // Stop at once if the caller disconnects, even while waiting for a turn to read the disk.
            () = sender.closed() => return,
        };
        if let Err(status) = sent {
            let _ = sender.send(Err(status)).await;
        }
    });
    Response::new(Box::pin(ReceiverStream::new(blocks)))
}

impl Service {
    /// Sends stored blocks until the caller disconnects. Returns the number of the last sample sent.
    async fn send_stored(&self, filter: Filter, to: &Sender<Reply>) -> Result<Option<u64>, Status> {
        let reader = Reader::new(&self.directory);
        let stored =
            self.disk.look(move || reader.blocks(filter).map(StoredBlocks::with_sealed_tails)).await?;
        let mut stored = stored.map_err(failed)?;
        let mut last = None;
        // Reserve a place before reading: a caller that does not read its answer costs no disk reads and blocks no thread.
        while let Ok(place) = to.reserve().await {
            let block;
            (block, stored) = self.disk.look(move || (stored.next(), stored)).await?;
            let Some(block) = block else { break };
            last = block.header().map(|header| header.last_sequence()).or(last);
            place.send(Ok(message(block)));
        }
        Ok(last)
    }

    /// Sends the samples stored since `from_ms` (0: none), then new samples, until the caller disconnects.
    async fn send_new(
        &self,
        from_ms: i64,
        mut changes: watch::Receiver<()>,
        to: &Sender<Reply>,
    ) -> Result<(), Status> {
        let stored = Filter::between(from_ms, i64::MAX);
        let last = if from_ms == 0 { None } else { self.send_stored(stored, to).await? };
        let directory = self.directory.clone();
        let follower = self.disk.look(move || Follower::new(&directory, last)).await?;
        let mut follower = follower.map_err(failed)?;
        loop {
            let poll = move || follower.poll().map(|blocks| (follower, blocks));
            let blocks;
            (follower, blocks) = self.disk.look(poll).await?.map_err(failed)?;
            for block in blocks {
                if to.send(Ok(message(block))).await.is_err() {
                    return Ok(());
                }
            }
            // This also returns for changes since the last poll began, so no sample is missed.
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return Ok(()) },
                () = to.closed() => return Ok(()),
            }
        }
    }
}

fn message(block: StoredBlock) -> pb::Block {
    pb::Block { data: block.data, lost: block.lost }
}

fn failed(error: directory::Error) -> Status {
    Status::internal(error.to_string())
}

/// Summarizes the record from its block headers.
fn info(directory: &Path) -> Result<InfoReply, directory::Error> {
    let (headers, lost) = Reader::new(directory).headers()?;
    let status = directory::status(directory)?;
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

/// State of the recorder for the host's status.
pub fn recorder_status(paths: &Paths) -> Result<pb::Recorder, directory::Error> {
    Ok(recorder(&directory::status(&paths.history())?))
}

fn recorder(status: &directory::Status) -> pb::Recorder {
    let newest = status.newest.as_ref().map(glance::recorder).unwrap_or_default();
    pb::Recorder { running: status.running, bytes: status.bytes, ..newest }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use record::{Block, BootId, Encoder, Limits, Sample, tail};
    use tokio_stream::StreamExt;

    use super::{history_server::History, *};
    use record::directory::Writer;

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
        let mut blocks =
            Service::new(&paths, Disk::default()).read(Request::new(request)).await.unwrap().into_inner();
        assert_eq!(receive(&mut blocks, usize::MAX).await, [5, 6, 7, 8, 9, 10]);
    }

    #[tokio::test]
    async fn new_samples_are_followed_from_now_or_from_then() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        let service = Service::new(&paths, Disk::default());
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
    fn the_status_shows_whether_a_recorder_runs() {
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
    fn a_summary_of_the_record() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        let mut writer = recorder_of(&paths);
        append(&mut writer, 1..11);
        append(&mut writer, 15..16);
        append(&mut writer, 50..51);
        let info = info(&paths.history()).unwrap();
        assert_eq!((info.oldest_unix_ms, info.newest_unix_ms), (1_000, 50_000));
        assert_eq!((info.samples, info.block_samples, info.blocks, info.restarts), (12, 8, 2, 0));
        let gaps: Vec<_> = info.gaps.iter().map(|gap| gap.length_ms).collect();
        assert_eq!(gaps, [35_000], "of each block the longest");
        assert!(info.block_bytes > 0 && info.block_bytes < info.bytes, "the tails have their full length");
        assert_eq!(info.lost, Vec::<String>::new());
    }

    /// Seven segments of four samples and a tail of two, with a flipped bit, a missing segment and a truncated tail.
    fn damaged_record(paths: &Paths) {
        let block = Limits { records: 4, bytes: 64 << 10 };
        let policy = Policy { block, segment_bytes: 1, ..Policy::default() };
        let writer = Writer::open(&paths.history(), BootId::default(), 0, policy).unwrap().0;
        append(&mut Recorder { writer, encoder: Encoder::new(block) }, 1..31);
        let flipped = directory::segment_path(&paths.history(), 5);
        let mut bytes = fs::read(&flipped).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(flipped, bytes).unwrap();
        fs::remove_file(directory::segment_path(&paths.history(), 13)).unwrap();
        for path in directory::TAILS.map(|name| paths.history().join(name)) {
            let bytes = fs::read(&path).unwrap();
            let scan = tail::scan(&bytes).unwrap().unwrap();
            if scan.builder.first_sequence() == 29 {
                fs::write(path, &bytes[..scan.good_bytes - 1]).unwrap();
            }
        }
    }

    /// The seconds in a block, and the losses reported before it.
    fn contents(data: &[u8], lost: Vec<String>) -> (Vec<i64>, Vec<String>) {
        let samples = Block::parse(data).and_then(|block| block.samples());
        let seconds = samples.into_iter().flatten().map(|sample| sample.unwrap().wall_ms / 1_000);
        (seconds.collect(), lost)
    }

    async fn served(paths: &Paths, request: ReadRequest) -> Vec<(Vec<i64>, Vec<String>)> {
        let service = Service::new(paths, Disk::default());
        let blocks = service.read(Request::new(request)).await.unwrap().into_inner();
        blocks.map(Result::unwrap).map(|block| contents(&block.data, block.lost)).collect().await
    }

    #[tokio::test]
    async fn a_host_and_a_reader_of_its_disk_return_the_same_blocks_and_losses() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        damaged_record(&paths);
        let requests = [
            ReadRequest::default(),
            ReadRequest { from_unix_ms: 10_000, until_unix_ms: 18_000, ..ReadRequest::default() },
            ReadRequest { pids: vec![7], ..ReadRequest::default() },
            ReadRequest { contents: Contents::EXITS.0.into(), ..ReadRequest::default() },
        ];
        for request in requests {
            let blocks = Reader::new(&paths.history()).blocks(wanted(request.clone()).unwrap()).unwrap();
            let read: Vec<_> = blocks.map(|block| contents(&block.data, block.lost)).collect();
            assert_eq!(served(&paths, request).await, read);
        }
        let all = served(&paths, ReadRequest::default()).await;
        let seconds: Vec<_> = all.iter().flat_map(|(seconds, _)| seconds).copied().collect();
        assert_eq!(seconds, (1..5).chain(9..13).chain(17..30).collect::<Vec<_>>());
        let lost: Vec<_> = all.iter().flat_map(|(_, lost)| lost).map(String::as_str).collect();
        assert!(lost[0].ends_with("of 00000000000000000005.blocks cannot be read: checksum does not match"));
        assert_eq!(lost[1..3], ["4 samples are missing"; 2]);
        assert!(lost[3].starts_with("tail.") && lost[3].ends_with("on: cut short"), "{lost:?}");
        assert_eq!(
            info(&paths.history()).unwrap().lost,
            lost[2..],
            "a flipped bit of a body is not looked for"
        );
    }
}
