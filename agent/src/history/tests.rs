//! What the record promises: what was appended is read back, whatever happens to the files.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use proptest::prelude::*;
use proto::history::{Block, BootId, Identity, Process, Sample};
use tempfile::TempDir;

use super::*;

const BOOT: BootId = BootId([3; 16]);

/// Small bounds, so that tests cross all of them.
fn policy() -> Policy {
    Policy {
        max_bytes: 64 << 10,
        max_age: Duration::from_secs(3_600),
        block_samples: 4,
        block_bytes: 8 << 10,
        segment_bytes: 2 << 10,
    }
}

/// The sample of second `n`.
fn sample(n: i64) -> Sample {
    let process = |pid: u32| Process {
        user_ns: n as u64 * 1_000 * u64::from(pid),
        comm: format!("worker-{pid}").into(),
        ..Process::bare(Identity { pid, started_ns: 7 })
    };
    let mut sample = Sample { boot_id: BOOT, wall_ms: n * 1_000, ..Sample::default() };
    sample.processes = (1..=5).map(process).collect();
    sample
}

fn open(directory: &Path) -> Writer {
    Writer::open(directory, BOOT, 0, policy()).unwrap().0
}

fn write(directory: &Path, seconds: std::ops::Range<i64>) {
    let mut writer = open(directory);
    seconds.for_each(|n| writer.append(&sample(n)).unwrap());
}

fn decode(block: &StoredBlock) -> Vec<Sample> {
    match block.data.as_slice() {
        [] => Vec::new(),
        data => Block::parse(data).unwrap().samples().unwrap().map(Result::unwrap).collect(),
    }
}

/// Every sample and every sentence.
fn read(directory: &Path) -> (Vec<Sample>, Vec<String>) {
    let (mut samples, mut lost) = (Vec::new(), Vec::new());
    for block in Reader::new(directory).blocks(i64::MIN, i64::MAX).unwrap() {
        let block = block.unwrap();
        samples.extend(decode(&block));
        lost.extend(block.lost);
    }
    (samples, lost)
}

fn seconds(samples: &[Sample]) -> Vec<i64> {
    samples.iter().map(|sample| sample.wall_ms / 1_000).collect()
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn samples_are_read_back_from_segments_and_tail() {
    let directory = TempDir::new().unwrap();
    write(directory.path(), 0..10);
    write(directory.path(), 10..15);
    let (samples, lost) = read(directory.path());
    assert_eq!(samples, (0..15).map(sample).collect::<Vec<_>>());
    assert_eq!(lost, Vec::<String>::new());
}

#[test]
fn a_range_yields_the_blocks_that_overlap_it() {
    let directory = TempDir::new().unwrap();
    write(directory.path(), 0..18);
    let blocks = Reader::new(directory.path()).blocks(5_000, 9_000).unwrap();
    let found: Vec<_> = blocks.flat_map(|block| decode(&block.unwrap())).collect();
    assert_eq!(seconds(&found), (4..12).collect::<Vec<_>>());
}

#[test]
fn a_second_writer_is_refused() {
    let directory = TempDir::new().unwrap();
    let writer = open(directory.path());
    assert!(matches!(Writer::open(directory.path(), BOOT, 0, policy()), Err(Error::Held(_))));
    drop(writer);
    open(directory.path());
}

#[test]
fn a_tail_cut_anywhere_costs_only_what_was_cut() {
    let directory = TempDir::new().unwrap();
    write(directory.path(), 0..7);
    let tail = fs::read(directory.path().join(TAIL)).unwrap();
    for length in 0..tail.len() {
        let copied = TempDir::new().unwrap();
        copy(directory.path(), copied.path());
        fs::write(copied.path().join(TAIL), &tail[..length]).unwrap();
        write(copied.path(), 100..102);
        let found = seconds(&read(copied.path()).0);
        let kept = found.len() - 2;
        assert!((4..7).contains(&kept), "{kept} kept of a tail cut at {length}");
        assert_eq!(found, (0..kept as i64).chain(100..102).collect::<Vec<_>>());
    }
}

#[test]
fn a_crash_while_a_block_is_written_loses_nothing() {
    // Before the eighth sample the tail holds three; after it, tail and segment both hold four.
    let directory = TempDir::new().unwrap();
    write(directory.path(), 0..8);
    let newest = segment::list(directory.path()).unwrap().pop().unwrap();
    let bytes = fs::read(&newest.path).unwrap();
    for length in 0..bytes.len() {
        let copied = TempDir::new().unwrap();
        copy(directory.path(), copied.path());
        let path = copied.path().join(newest.path.file_name().unwrap());
        fs::write(&path, &bytes[..length]).unwrap();
        let first_is_whole = length >= Block::parse(&bytes).unwrap().header.block_bytes();
        let expected: Vec<_> = if first_is_whole { (0..8).collect() } else { (4..8).collect() };
        assert_eq!(seconds(&read(copied.path()).0), expected, "read at {length}");
        open(copied.path());
        assert_eq!(
            read(copied.path()),
            (expected.into_iter().map(sample).collect(), vec![]),
            "repaired at {length}"
        );
    }
}

#[test]
fn a_flipped_byte_costs_one_block_and_is_told() {
    let directory = TempDir::new().unwrap();
    write(directory.path(), 0..16);
    let oldest = segment::list(directory.path()).unwrap().remove(0).path;
    let bytes = fs::read(&oldest).unwrap();
    let block_bytes = Block::parse(&bytes).unwrap().header.block_bytes();
    for index in 0..block_bytes {
        let mut damaged = bytes.clone();
        damaged[index] ^= 0x10;
        fs::write(&oldest, damaged).unwrap();
        let (samples, lost) = read(directory.path());
        assert_eq!(seconds(&samples), (4..16).collect::<Vec<_>>(), "byte {index}");
        assert_eq!(lost.len(), 1, "byte {index}: {lost:?}");
    }
}

#[test]
fn a_tail_that_cannot_be_read_is_kept_aside() {
    let directory = TempDir::new().unwrap();
    write(directory.path(), 0..6);
    fs::write(directory.path().join(TAIL), b"not a tail").unwrap();
    let (mut writer, lost) = Writer::open(directory.path(), BOOT, 0, policy()).unwrap();
    assert_eq!(lost.len(), 1);
    writer.append(&sample(9)).unwrap();
    assert_eq!(seconds(&read(directory.path()).0), [0, 1, 2, 3, 9]);
    assert_eq!(fs::read(directory.path().join("tail.damaged")).unwrap(), b"not a tail");
}

#[test]
fn the_size_bound_holds_and_the_newest_samples_stay() {
    let directory = TempDir::new().unwrap();
    let policy = Policy { block_bytes: 2 << 10, ..policy() };
    let (mut writer, _) = Writer::open(directory.path(), BOOT, 0, policy).unwrap();
    for n in 0..1_000 {
        writer.append(&sample(n)).unwrap();
        let bytes = status(directory.path()).unwrap().bytes;
        assert!(bytes <= policy.max_bytes, "{bytes} bytes after sample {n}");
    }
    let found = seconds(&read(directory.path()).0);
    assert!(found.len() > 200, "only {} samples are left", found.len());
    assert_eq!(found, (1_000 - found.len() as i64..1_000).collect::<Vec<_>>());
}

#[test]
fn status_follows_the_writer() {
    let directory = TempDir::new().unwrap();
    assert_eq!(status(&directory.path().join("missing")).unwrap(), Status::default());
    let mut writer = open(directory.path());
    for n in 0..9 {
        writer.append(&sample(n)).unwrap();
        let status = status(directory.path()).unwrap();
        assert!(status.running);
        assert_eq!(status.last_sample_ms, Some(n * 1_000));
    }
    drop(writer);
    assert!(!status(directory.path()).unwrap().running);
}

#[test]
fn a_reader_beside_the_writer_never_misses_a_sample() {
    let directory = TempDir::new().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            write(directory.path(), 0..300);
            done.store(true, Ordering::Release);
        });
        let mut seen = 0;
        loop {
            let last = done.load(Ordering::Acquire);
            let (samples, lost) = read(directory.path());
            assert_eq!(lost, Vec::<String>::new());
            let found = seconds(&samples);
            let first = found.first().copied().unwrap_or(0);
            assert_eq!(found, (first..first + found.len() as i64).collect::<Vec<_>>());
            let newest = found.last().map_or(0, |second| second + 1);
            assert!(newest >= seen, "sample {seen} was there and is not");
            seen = newest;
            if last {
                assert_eq!(seen, 300);
                break;
            }
        }
    });
}

#[test]
fn a_follower_gets_every_sample_once() {
    let directory = TempDir::new().unwrap();
    write(directory.path(), 0..2);
    let mut follower = Follower::new(directory.path(), None).unwrap();
    let mut writer = open(directory.path());
    let mut found = Vec::new();
    for n in 2..40 {
        writer.append(&sample(n)).unwrap();
        // Now and then whole blocks are written between two looks.
        if n < 20 || n == 39 {
            for block in follower.poll().unwrap() {
                assert_eq!(block.lost, Vec::<String>::new());
                found.extend(decode(&block));
            }
        }
    }
    assert_eq!(found, (2..40).map(sample).collect::<Vec<_>>());
    assert_eq!(follower.poll().unwrap(), []);
}

#[test]
fn a_follower_skips_what_was_sent_of_a_block_that_was_finished_since() {
    let directory = TempDir::new().unwrap();
    let mut writer = open(directory.path());
    (0..6).for_each(|n| writer.append(&sample(n)).unwrap());
    let mut follower = Follower::new(directory.path(), Some(6)).unwrap();
    (6..21).for_each(|n| writer.append(&sample(n)).unwrap());
    let found: Vec<_> = follower.poll().unwrap().iter().flat_map(decode).collect();
    assert_eq!(seconds(&found), (6..21).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_damage_leaves_a_record_that_opens_and_goes_on(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let directory = TempDir::new().unwrap();
        write(directory.path(), 0..22);
        let files: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path())
            .filter(|path| fs::metadata(path).unwrap().len() > 0).collect();
        for (file, at, byte) in changes {
            let path = file.get(&files);
            let mut bytes = fs::read(path).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            fs::write(path, bytes).unwrap();
        }
        read(directory.path());
        write(directory.path(), 100..103);
        let found = seconds(&read(directory.path()).0);
        prop_assert!(found.ends_with(&[100, 101, 102]), "{:?}", found);
    }
}
