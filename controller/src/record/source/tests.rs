//! Directories made by hand: what is in them is read in order, nothing twice, and every loss is told.

use std::fs;

use proptest::prelude::*;
use record::{BootId, Columns, Encoder, Exit, Identity, Limits, Process, encode, tail};

use super::*;

fn sample(second: u64) -> Sample {
    let process = Process::bare(Identity { pid: if second < 200 { 7 } else { 8 }, started_ns: 0 });
    Sample {
        wall_ms: second as i64 * 1_000,
        boottime_ns: second * 1_000_000_000,
        interval_ms: 1_000,
        processes: vec![process],
        ..Sample::default()
    }
}

/// The samples of these seconds as a block; a sample's number is its second.
fn block(seconds: std::ops::Range<u64>) -> Vec<u8> {
    let first = seconds.start;
    encode(&seconds.map(sample).collect::<Vec<_>>(), first).unwrap()
}

/// The same as a write-ahead file with old bytes behind its end.
fn tail_of(seconds: std::ops::Range<u64>) -> Vec<u8> {
    let header = tail::Header { boot_id: BootId::default(), first_sequence: seconds.start };
    let mut bytes = Vec::new();
    header.write(&mut bytes);
    let mut encoder = Encoder::new(Limits { records: u32::MAX, bytes: usize::MAX });
    for second in seconds {
        let mut record = Vec::new();
        encoder.encode(&sample(second), &mut record);
        bytes.truncate(bytes.len() - if bytes.len() > tail::HEADER_BYTES { tail::END_BYTES } else { 0 });
        header.write_frame(&record, &mut bytes);
    }
    bytes.extend([0xab; 50]);
    bytes
}

struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(self, name: &str, bytes: &[u8]) -> Self {
        fs::write(self.0.path().join(name), bytes).unwrap();
        self
    }

    fn segment(self, first: u64, blocks: &[Vec<u8>]) -> Self {
        self.with(&format!("{first:020}.blocks"), &blocks.concat())
    }

    fn open(&self) -> Directory {
        Directory::open(self.0.path()).unwrap()
    }

    /// Seconds of all samples, and all losses.
    fn read(&self, filter: Filter) -> (Vec<u64>, Vec<String>) {
        let (mut seconds, mut lost) = (Vec::new(), Vec::new());
        for block in self.open().blocks(filter).unwrap() {
            let take = |piece: Piece<'_>| {
                match piece {
                    Piece::Sample(sample) => seconds.push(sample.wall_ms as u64 / 1_000),
                    Piece::Lost(sentence) => lost.push(sentence.to_owned()),
                }
                Ok(())
            };
            block.open(&Detail::of(Columns::ALL)).each(take).unwrap();
        }
        (seconds, lost)
    }
}

fn seconds(range: std::ops::Range<u64>) -> Vec<u64> {
    range.collect()
}

#[test]
fn segments_and_tails_follow_each_other_and_nothing_comes_twice() {
    let disk = Disk::new()
        .segment(100, &[block(100..110), block(110..120)])
        .segment(120, &[block(120..130)])
        // One that has become a block already, and the newest.
        .with("tail.b", &tail_of(120..130))
        .with("tail.a", &tail_of(130..134))
        .with("lock", b"");
    assert_eq!(disk.read(Filter::default()), (seconds(100..134), vec![]));
    assert_eq!(disk.open().range().unwrap(), Some((100_000, 133_000)));
}

#[test]
fn the_newest_sample_is_the_last_one_though_the_clock_was_ahead_before() {
    let samples = |seconds: std::ops::Range<u64>| seconds.map(sample).collect::<Vec<_>>();
    let ahead = encode(&samples(90_000..90_010), 110).unwrap();
    let right = encode(&samples(130..140), 120).unwrap();
    let disk = Disk::new().segment(100, &[block(100..110), ahead, right]);
    assert_eq!(disk.open().range().unwrap(), Some((100_000, 139_000)));
    let window = |from_ms, until_ms| disk.read(Filter { from_ms, until_ms, ..Filter::default() }).0;
    assert_eq!(window(130_000, 139_000), seconds(130..140));
    assert_eq!(window(90_000_000, 90_009_000), seconds(90_000..90_010));
}

#[test]
fn a_tail_that_reaches_further_than_its_block_is_read_from_there() {
    let disk = Disk::new().segment(100, &[block(100..105)]).with("tail.a", &tail_of(100..112));
    assert_eq!(disk.read(Filter::default()), (seconds(100..112), vec![]));
}

#[test]
fn tails_that_were_never_written_to_are_no_loss() {
    let disk = Disk::new().with("tail.a", &[0; 4_096]).with("tail.b", b"");
    assert_eq!(disk.read(Filter::default()), (vec![], vec![]));
    assert_eq!(disk.open().range().unwrap(), None);
}

#[test]
fn a_block_cut_at_the_end_is_no_loss_if_its_samples_are_in_a_tail() {
    let cut = block(110..120)[..90].to_vec();
    let disk = || Disk::new().segment(100, &[block(100..110), cut.clone()]);
    assert_eq!(
        disk().with("tail.a", &tail_of(110..125)).read(Filter::default()),
        (seconds(100..125), vec![])
    );
    let (read, lost) = disk().read(Filter::default());
    assert_eq!(read, seconds(100..110));
    assert_eq!(lost, ["90 bytes of 00000000000000000100.blocks cannot be read: cut short"]);
}

#[test]
fn damage_and_missing_samples_are_told_where_they_are() {
    let mut damaged = block(110..120);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let length = damaged.len();
    let disk = Disk::new()
        .segment(100, &[block(100..110), damaged, block(120..130)])
        .segment(140, &[block(140..150)]);
    let (read, lost) = disk.read(Filter::default());
    assert_eq!(read, [seconds(100..110), seconds(120..130), seconds(140..150)].concat());
    let bytes =
        format!("{length} bytes of 00000000000000000100.blocks cannot be read: checksum does not match");
    assert_eq!(lost, [bytes.as_str(), "10 samples are missing", "10 samples are missing"]);
    // What was lost before the time that is asked for is of no interest.
    let late = Filter { from_ms: 145_000, ..Filter::default() };
    assert_eq!(disk.read(late), (seconds(140..150), vec!["10 samples are missing".to_owned()]));
}

#[test]
fn only_blocks_that_may_hold_what_is_wanted_are_read() {
    let exit = Exit {
        identity: Identity { pid: 7, started_ns: 0 },
        parent: 1,
        uid: 0,
        comm: "sh".into(),
        at_ns: 0,
        lived_us: 0,
        user_us: 0,
        system_us: 0,
        peak_kib: 0,
        status: 0,
        major_faults: 0,
        read_bytes: 0,
        written_bytes: 0,
    };
    let with_exit = encode(&[Sample { exits: vec![exit], ..sample(300) }], 300).unwrap();
    let disk = Disk::new().segment(100, &[block(100..200), block(200..300), with_exit]);
    let time = Filter { from_ms: 150_000, until_ms: 180_000, ..Filter::default() };
    assert_eq!(disk.read(time).0, seconds(100..200));
    let pids = Filter { pids: vec![8], ..Filter::default() };
    assert_eq!(disk.read(pids).0, seconds(200..301));
    let contents = Filter { contents: Contents::EXITS, ..Filter::default() };
    assert_eq!(disk.read(contents), (vec![300], vec![]));
}

#[test]
fn the_root_of_a_disk_will_do_and_anything_else_is_refused_with_a_hint() {
    let root = tempfile::tempdir().unwrap();
    let error = Directory::open(root.path()).unwrap_err();
    assert_eq!((error.kind().exit_code(), error.hints().len()), (2, 1));
    let history = root.path().join("var/lib/magpie/history");
    fs::create_dir_all(&history).unwrap();
    fs::write(history.join(format!("{:020}.blocks", 100)), block(100..110)).unwrap();
    assert_eq!(Directory::open(root.path()).unwrap().path(), history);
    assert!(Directory::open(&root.path().join("nothing")).is_err());
}

#[test]
fn a_directory_is_told_at_a_glance() {
    let later = |second| Sample {
        own_start_ns: 0,
        own_cpu_us: 3_000_000,
        boottime_ns: 300_000_000_000,
        ..sample(second)
    };
    let last = encode(&[later(300)], 130).unwrap();
    let disk = Disk::new().segment(100, &[block(100..130), last]);
    let info = disk.open().info().unwrap();
    assert_eq!((info.samples, info.blocks, info.restarts), (31, 2, 0));
    assert_eq!((info.oldest_unix_ms, info.newest_unix_ms), (100_000, 300_000));
    assert_eq!(info.gaps.iter().map(|gap| gap.length_ms).collect::<Vec<_>>(), [171_000]);
    let recorder = info.recorder.unwrap();
    assert_eq!((recorder.collector.as_str(), recorder.cpu_ppm, recorder.running), ("proc", 10_000, false));
}

fn stored(seconds: std::ops::Range<u64>) -> StoredBlock {
    StoredBlock { data: block(seconds), ..StoredBlock::default() }
}

fn run(id: &str) -> KnownRun {
    KnownRun {
        run_id: id.into(),
        what: "apply".into(),
        user: "ada".into(),
        state: Some("changed".into()),
        started_unix_ms: 105_000,
        finished_unix_ms: 106_000,
    }
}

#[test]
fn a_copy_goes_on_where_it_ended_and_reads_like_the_original() {
    let disk = Disk::new();
    let fetch = |blocks: &[std::ops::Range<u64>], runs| {
        let mut copy = Copy::new(disk.0.path(), "db-1").unwrap();
        for seconds in blocks {
            assert_eq!(copy.add(&stored(seconds.clone())).unwrap(), None);
        }
        copy.finish(runs).unwrap()
    };
    // First the newest, of which the last block is still being filled; then more; then what was before.
    assert_eq!(fetch(&[120..130, 130..134], vec![run("a")]).samples, 14);
    let fetched = fetch(&[120..130, 130..140, 140..145], vec![run("b")]);
    assert_eq!((fetched.samples, fetched.present), (15, 10));
    let fetched = fetch(&[100..110, 110..120, 120..130, 130..140, 140..145, 145..150], Vec::new());
    assert_eq!((fetched.samples, fetched.present), (25, 25));
    assert_eq!(disk.read(Filter::default()), (seconds(100..150), vec![]));
    let runs: Vec<_> = disk.open().runs().unwrap().into_iter().map(|run| run.run_id).collect();
    assert_eq!(runs, ["a", "b"]);
}

#[test]
fn a_copy_mixes_no_records_and_keeps_no_damage() {
    let disk = Disk::new();
    let mut copy = Copy::new(disk.0.path(), "db-1").unwrap();
    let mut damaged = stored(100..110);
    damaged.data[200] ^= 1;
    assert!(copy.add(&damaged).unwrap().unwrap().contains("checksum"));
    copy.finish(Vec::new()).unwrap();
    let error = Copy::new(disk.0.path(), "db-2").unwrap_err();
    assert!(error.to_string().ends_with("holds the record of db-1"), "{error}");
    let foreign = Disk::new().segment(100, &[block(100..110)]);
    assert_eq!(Copy::new(foreign.0.path(), "db-1").unwrap_err().kind().exit_code(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_read_without_panic(
        first in prop::collection::vec(any::<u8>(), 0..600),
        second in prop::collection::vec(any::<u8>(), 0..200),
        runs in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let disk = Disk::new().segment(1, std::slice::from_ref(&first)).with("tail.a", &second).with("tail.b", &first);
        let (read, _) = disk.read(Filter::default());
        prop_assert_eq!(read, Vec::<u64>::new());
        disk.open().info().unwrap();
        let _ = disk.with("runs.json", &runs).open().runs();
    }

    #[test]
    fn one_flipped_bit_loses_at_most_its_block_and_never_silently(place: prop::sample::Index, bit in 0..8_u32) {
        let blocks = [block(100..105), block(105..110), block(110..115)];
        let mut bytes = blocks.concat();
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let (read, lost) = Disk::new().segment(100, &[bytes]).read(Filter::default());
        prop_assert!(read.len() >= 10 && !lost.is_empty(), "{:?} {:?}", read, lost);
    }
}
