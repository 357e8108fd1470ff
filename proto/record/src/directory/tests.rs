//! Every appended sample is read back, whatever happens to the files.

mod reading;

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use crate::{Block, BootId, Contents, Encoder, Identity, Limits, Process, Sample, tail};
use nix::{
    mount::{MsFlags, mount, umount},
    sched::{CloneFlags, unshare},
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const BOOT: BootId = BootId([3; 16]);

/// Small limits, so that tests reach all of them.
fn policy() -> Policy {
    Policy {
        max_bytes: 256 << 10,
        max_age: Duration::from_secs(3_600),
        block: Limits { records: 4, bytes: 8 << 10 },
        segment_bytes: 2 << 10,
    }
}

/// The sample of second `n`.
fn sample(n: i64) -> Sample {
    let process = |pid: u32| Process {
        user_us: n as u64 * 1_000 * u64::from(pid),
        comm: format!("worker-{pid}").into(),
        ..Process::bare(Identity { pid, started_ns: 7 })
    };
    let mut sample = Sample { boot_id: BOOT, wall_ms: n * 1_000, ..Sample::default() };
    sample.processes = (1..=5).map(process).collect();
    sample
}

/// A writer with its encoder.
struct Recorder {
    writer: Writer,
    encoder: Encoder,
}

impl Recorder {
    fn open_with(directory: &Path, policy: Policy) -> (Self, Vec<String>) {
        let (writer, lost) = Writer::open(directory, BOOT, 0, policy).unwrap();
        (Self { writer, encoder: Encoder::new(policy.block) }, lost)
    }

    fn open(directory: &Path) -> Self {
        Self::open_with(directory, policy()).0
    }

    fn append(&mut self, sample: &Sample) -> Result<(), Error> {
        let mut record = Vec::new();
        self.encoder.encode(sample, &mut record);
        self.writer.append(&record)
    }
}

fn write(directory: &Path, seconds: std::ops::Range<i64>) {
    let mut recorder = Recorder::open(directory);
    seconds.for_each(|n| recorder.append(&sample(n)).unwrap());
}

/// The tail in use.
fn newest_tail(directory: &Path) -> PathBuf {
    let first = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap_or_default();
        tail::Header::parse(&bytes).ok().flatten().map(|header| header.first_sequence)
    };
    TAILS.map(|name| directory.join(name)).into_iter().max_by_key(first).unwrap()
}

fn decode(block: &StoredBlock) -> Vec<Sample> {
    match block.data.as_slice() {
        [] => Vec::new(),
        data => Block::parse(data).unwrap().samples().unwrap().map(Result::unwrap).collect(),
    }
}

/// All samples and all losses.
fn read(directory: &Path) -> (Vec<Sample>, Vec<String>) {
    let (mut samples, mut lost) = (Vec::new(), Vec::new());
    for block in Reader::new(directory).blocks(Filter::default()).unwrap() {
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
    let blocks = Reader::new(directory.path()).blocks(Filter::between(5_000, 9_000)).unwrap();
    let found: Vec<_> = blocks.flat_map(|block| decode(&block)).collect();
    assert_eq!(seconds(&found), (4..12).collect::<Vec<_>>());
}

#[test]
fn a_second_writer_is_refused() {
    let directory = TempDir::new().unwrap();
    let recorder = Recorder::open(directory.path());
    assert!(matches!(Writer::open(directory.path(), BOOT, 0, policy()), Err(Error::Held(_))));
    drop(recorder);
    Recorder::open(directory.path());
}

#[test]
fn only_blocks_with_what_is_asked_for_are_read() {
    let directory = TempDir::new().unwrap();
    let mut recorder = Recorder::open(directory.path());
    for n in 0..12 {
        let mut sample = sample(n);
        if n == 5 {
            sample.processes.push(Process::bare(Identity { pid: 77, started_ns: 7 }));
        }
        sample.host.oom_kills = Some(u64::from(n >= 9));
        recorder.append(&sample).unwrap();
    }
    let read = |filter| {
        let blocks = Reader::new(directory.path()).blocks(filter).unwrap();
        seconds(&blocks.flat_map(|block| decode(&block)).collect::<Vec<_>>())
    };
    let all = Filter::default();
    assert_eq!(read(Filter { pids: [77].into(), ..all.clone() }), [4, 5, 6, 7]);
    assert_eq!(read(Filter { contents: Contents::OOM_KILLS, ..all.clone() }), [8, 9, 10, 11]);
    assert_eq!(read(Filter { contents: Contents::KERNEL, ..all }), [] as [i64; 0]);
}

/// Damages the tail with seconds 8 to 10: all intact samples must be read, and the loss reported.
fn damage_the_tail(damage: impl Fn(&[u8], usize) -> Vec<u8>) {
    let directory = TempDir::new().unwrap();
    write(directory.path(), 0..11);
    let path = newest_tail(directory.path());
    let bytes = fs::read(&path).unwrap();
    let used = tail::scan(&bytes).unwrap().unwrap().good_bytes;
    let last_frame = bytes.len().min(used + tail::END_BYTES);
    for at in 0..last_frame {
        fs::write(&path, damage(&bytes, at)).unwrap();
        let (samples, lost) = read(directory.path());
        let found = seconds(&samples);
        assert!(found.starts_with(&[0, 1, 2, 3, 4, 5, 6, 7]) && found.is_sorted(), "{found:?} at {at}");
        assert!(found.len() == 11 || !lost.is_empty() || at == 0, "nothing said of damage at {at}");

        let copied = TempDir::new().unwrap();
        copy(directory.path(), copied.path());
        let (mut recorder, _) = Recorder::open_with(copied.path(), policy());
        recorder.append(&sample(100)).unwrap();
        let after = seconds(&read(copied.path()).0);
        assert_eq!(after, found.iter().copied().chain([100]).collect::<Vec<_>>(), "opened at {at}");
    }
}

#[test]
fn a_tail_cut_anywhere_costs_only_what_was_cut() {
    damage_the_tail(|bytes, at| bytes[..at].to_vec());
}

#[test]
fn a_flipped_byte_of_a_tail_is_reported() {
    damage_the_tail(|bytes, at| {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 0x10;
        damaged
    });
}

#[test]
fn a_crash_while_a_block_is_written_loses_nothing() {
    // The ninth sample is in its tail before the block with the four samples before it is written.
    let directory = TempDir::new().unwrap();
    write(directory.path(), 0..9);
    let newest = segment::list(directory.path()).unwrap().pop().unwrap();
    let bytes = fs::read(&newest.path).unwrap();
    let first_block = Block::parse(&bytes).unwrap().header.block_bytes();
    for length in first_block..bytes.len() {
        let copied = TempDir::new().unwrap();
        copy(directory.path(), copied.path());
        fs::write(copied.path().join(newest.path.file_name().unwrap()), &bytes[..length]).unwrap();
        assert_eq!(seconds(&read(copied.path()).0), (0..9).collect::<Vec<_>>(), "read at {length}");
        Recorder::open(copied.path());
        let (samples, lost) = read(copied.path());
        assert_eq!((seconds(&samples), lost), ((0..9).collect(), vec![]), "repaired at {length}");
    }
}

#[test]
fn a_flipped_byte_costs_one_block_and_is_reported() {
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
    let path = newest_tail(directory.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[..10].copy_from_slice(b"not a tail");
    fs::write(&path, &bytes).unwrap();
    let (mut recorder, lost) = Recorder::open_with(directory.path(), policy());
    assert_eq!(lost.len(), 1);
    recorder.append(&sample(9)).unwrap();
    assert_eq!(seconds(&read(directory.path()).0), [0, 1, 2, 3, 9]);
    assert_eq!(fs::read(path.with_extension("damaged")).unwrap(), bytes);
}

#[test]
fn samples_of_another_version_say_so_and_stay() {
    let directory = TempDir::new().unwrap();
    write(directory.path(), 0..9);
    let oldest = segment::list(directory.path()).unwrap().remove(0).path;
    let mut bytes = fs::read(&oldest).unwrap();
    bytes[4] = 9;
    fs::write(&oldest, &bytes).unwrap();
    write(directory.path(), 20..21);
    let (samples, lost) = read(directory.path());
    assert_eq!(seconds(&samples).last(), Some(&20));
    assert!(lost[0].contains("format version 9"), "{lost:?}");
}

#[test]
fn after_a_lost_record_only_a_key_is_stored() {
    let directory = TempDir::new().unwrap();
    let mut recorder = Recorder::open(directory.path());
    recorder.append(&sample(0)).unwrap();
    recorder.encoder.encode(&sample(1), &mut Vec::new());
    drop(recorder);
    let mut recorder = Recorder::open(directory.path());
    let (mut encoder, mut record) = (Encoder::new(policy().block), Vec::new());
    encoder.encode(&sample(2), &mut record);
    record.clear();
    encoder.encode(&sample(3), &mut record);
    assert!(matches!(recorder.writer.append(&record), Err(Error::NoKey)));
    recorder.append(&sample(4)).unwrap();
    assert_eq!(seconds(&read(directory.path()).0), [0, 4]);
}

#[test]
fn the_size_bound_holds_and_the_newest_samples_stay() {
    let directory = TempDir::new().unwrap();
    let policy = Policy {
        max_bytes: 64 << 10,
        block: Limits { records: 4, bytes: 2 << 10 },
        segment_bytes: 4 << 10,
        ..policy()
    };
    let (mut recorder, _) = Recorder::open_with(directory.path(), policy);
    for n in 0..1_000 {
        recorder.append(&sample(n)).unwrap();
        let bytes = status(directory.path()).unwrap().bytes;
        assert!(bytes <= policy.max_bytes, "{bytes} bytes after sample {n}");
    }
    let found = seconds(&read(directory.path()).0);
    assert!(found.len() > 200, "only {} samples are left", found.len());
    assert_eq!(found, (1_000 - found.len() as i64..1_000).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_sheds_the_oldest_and_takes_the_newest() {
    // A file system in a private mount namespace of this thread, which ends with the thread.
    let own_disk = || {
        let directory = TempDir::new().unwrap();
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNS) {
            return eprintln!("skipped: {error}");
        }
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some("size=128k")).unwrap();
        let policy = Policy { max_bytes: 1 << 30, segment_bytes: 16 << 10, ..policy() };
        let (mut recorder, _) = Recorder::open_with(directory.path(), policy);
        (0..2_000).for_each(|n| recorder.append(&sample(n)).unwrap());
        let (samples, lost) = read(directory.path());
        let found = seconds(&samples);
        assert!((200..2_000).contains(&found.len()), "{} samples are left", found.len());
        assert_eq!(found, (2_000 - found.len() as i64..2_000).collect::<Vec<_>>());
        assert_eq!(lost, Vec::<String>::new());
        drop(recorder);
        umount(directory.path()).unwrap();
    };
    std::thread::spawn(own_disk).join().unwrap();
}

#[test]
fn status_follows_the_writer() {
    let directory = TempDir::new().unwrap();
    assert_eq!(status(&directory.path().join("missing")).unwrap(), Status::default());
    let mut recorder = Recorder::open(directory.path());
    for n in 0..9 {
        recorder.append(&sample(n)).unwrap();
        let status = status(directory.path()).unwrap();
        assert!(status.running);
        assert_eq!(status.newest, Some(sample(n)));
    }
    drop(recorder);
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
    let mut recorder = Recorder::open(directory.path());
    let mut found = Vec::new();
    for n in 2..40 {
        recorder.append(&sample(n)).unwrap();
        // Sometimes whole blocks are written between two polls.
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
    let mut recorder = Recorder::open(directory.path());
    (0..6).for_each(|n| recorder.append(&sample(n)).unwrap());
    let mut follower = Follower::new(directory.path(), Some(6)).unwrap();
    (6..21).for_each(|n| recorder.append(&sample(n)).unwrap());
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
