//! Handmade directories: finding a record, its summary, and copies. The crate `record` tests reading.

use std::fs;

use proptest::prelude::*;
use record::{Columns, Identity, Process, Sources, encode};

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

/// A block with one sample per second; a sample's number is its second.
fn block(seconds: std::ops::Range<u64>) -> Vec<u8> {
    let first = seconds.start;
    encode(&seconds.map(sample).collect::<Vec<_>>(), first).unwrap()
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
            Opened::new(block, &Detail::of(Columns::ALL)).each(take).unwrap();
        }
        (seconds, lost)
    }
}

fn seconds(range: std::ops::Range<u64>) -> Vec<u64> {
    range.collect()
}

#[test]
fn without_recorded_exits_io_takes_the_parents_of_all_processes() {
    let parents = |sources: Sources, columns: Columns| {
        let other = Process { parent: 7, ..Process::bare(Identity { pid: 9, started_ns: 0 }) };
        let processes = sample(0).processes.into_iter().chain([other]).collect();
        let sample = Sample { sources, processes, ..sample(0) };
        let block = StoredBlock { data: encode(&[sample], 1).unwrap(), lost: Vec::new() };
        let mut parents: Vec<u32> = Vec::new();
        let take = |piece: Piece<'_>| {
            if let Piece::Sample(sample) = piece {
                parents.extend(sample.processes.iter().map(|process| process.parent));
            }
            Ok(())
        };
        Opened::new(block, &Detail { columns, pids: vec![7] }).each(take).unwrap();
        parents
    };
    let unrecorded = Sources::default();
    assert_eq!(parents(unrecorded, Columns::IO), [0, 7]);
    assert_eq!(parents(Sources::EXITS, Columns::IO), [0, 0]);
    assert_eq!(parents(unrecorded, Columns::CPU.with(Columns::PARENT)), [0, 0], "no I/O is wanted");
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
fn a_summary_of_a_directory() {
    let later = |second| Sample {
        own_start_ns: 0,
        own_cpu_us: 3_000_000,
        boottime_ns: 300_000_000_000,
        ..sample(second)
    };
    let last = encode(&[later(300)], 130).unwrap();
    let disk = Disk::new().segment(100, &[block(100..130), last]);
    let info = disk.open().info().unwrap();
    assert_eq!((info.samples, info.block_samples, info.blocks, info.restarts), (31, 31, 2, 0));
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
    // First the newest blocks, the last of which is not full yet; then newer ones; then older ones.
    assert_eq!(fetch(&[120..130, 130..134], vec![run("a")]).samples, 14);
    let fetched = fetch(&[120..130, 130..140, 140..145], vec![run("b")]);
    assert_eq!((fetched.samples, fetched.present), (15, 10));
    let fetched = fetch(&[100..110, 110..120, 120..130, 130..140, 140..145, 145..150], Vec::new());
    assert_eq!((fetched.samples, fetched.present), (25, 25));
    assert_eq!(disk.read(Filter::default()), (seconds(100..150), vec![]));
    assert_eq!(disk.open().info().unwrap().samples, 50);
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
    assert!(error.to_string().ends_with("contains the record of db-1"), "{error}");
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
}
