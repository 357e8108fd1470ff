//! Reads handmade directories: samples come in order, none twice, and every loss is reported.

use std::{fs, path::Path};

use proptest::prelude::*;
use tempfile::TempDir;

use crate::{
    Block, BootId, Contents, Encoder, Exit, HEADER_BYTES, Identity, Limits, Process, Sample,
    directory::{Blocks, Filter, Follower, Reader, Writer, newest, segment_path},
    encode, tail,
};

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

/// A write-ahead file with the same samples, and old bytes after its end.
fn tail_of(seconds: std::ops::Range<u64>) -> Vec<u8> {
    let header = tail::Header::new(BootId::default(), seconds.start);
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

struct Disk(TempDir);

impl Disk {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn with(self, name: &str, bytes: &[u8]) -> Self {
        fs::write(self.path().join(name), bytes).unwrap();
        self
    }

    fn segment(self, first: u64, blocks: &[Vec<u8>]) -> Self {
        fs::write(segment_path(self.path(), first), blocks.concat()).unwrap();
        self
    }

    /// Seconds of all samples, and all losses; the same whether tails are sealed or not.
    fn read(&self, filter: Filter) -> (Vec<u64>, Vec<String>) {
        let blocks = || Reader::new(self.path()).blocks(filter.clone()).unwrap();
        let read = collect(blocks());
        assert_eq!(collect(blocks().with_sealed_tails()), read);
        read
    }

    /// Wall times of the earliest sample and of the newest block's last, ms.
    fn range(&self) -> Option<(i64, i64)> {
        let (headers, _) = Reader::new(self.path()).headers().unwrap();
        let earliest = headers.iter().map(|header| header.earliest_wall_ms).min()?;
        Some((earliest, headers.last()?.latest_wall_ms))
    }
}

fn collect(blocks: Blocks) -> (Vec<u64>, Vec<String>) {
    let (mut seconds, mut lost) = (Vec::new(), Vec::new());
    for block in blocks {
        lost.extend(block.lost);
        if let Ok(block) = Block::parse(&block.data) {
            let samples = block.samples().unwrap().map(Result::unwrap);
            seconds.extend(samples.map(|sample| sample.wall_ms as u64 / 1_000));
        }
    }
    (seconds, lost)
}

fn seconds(range: std::ops::Range<u64>) -> Vec<u64> {
    range.collect()
}

#[test]
fn segments_and_tails_follow_each_other_and_nothing_comes_twice() {
    let disk = Disk::new()
        .segment(100, &[block(100..110), block(110..120)])
        .segment(120, &[block(120..130)])
        // A tail that already became a block, and the newest tail.
        .with("tail.b", &tail_of(120..130))
        .with("tail.a", &tail_of(130..134))
        .with("lock", b"");
    assert_eq!(disk.read(Filter::default()), (seconds(100..134), vec![]));
    assert_eq!(disk.range(), Some((100_000, 133_000)));
}

#[test]
fn the_newest_sample_is_the_last_one_though_the_clock_was_ahead_before() {
    let samples = |seconds: std::ops::Range<u64>| seconds.map(sample).collect::<Vec<_>>();
    let ahead = encode(&samples(90_000..90_010), 110).unwrap();
    let right = encode(&samples(130..140), 120).unwrap();
    let disk = Disk::new().segment(100, &[block(100..110), ahead, right]);
    assert_eq!(disk.range(), Some((100_000, 139_000)));
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
    assert_eq!(disk.range(), None);
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
fn damage_and_missing_samples_are_reported_where_they_are() {
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
    // Losses before the requested time are not reported.
    let late = Filter { from_ms: 145_000, ..Filter::default() };
    assert_eq!(disk.read(late), (seconds(140..150), vec!["10 samples are missing".to_owned()]));
}

#[test]
fn a_single_missing_sample_is_reported_in_the_singular() {
    let disk = Disk::new().segment(100, &[block(100..110), block(111..120)]);
    assert_eq!(disk.read(Filter::default()).1, ["1 sample is missing"]);
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
    let pids = Filter { pids: [8].into(), ..Filter::default() };
    assert_eq!(disk.read(pids).0, seconds(200..301));
    let contents = Filter { contents: Contents::EXITS, ..Filter::default() };
    assert_eq!(disk.read(contents), (vec![300], vec![]));
}

#[test]
fn pids_choose_among_tails_too() {
    let disk = Disk::new().with("tail.a", &tail_of(100..110)).with("tail.b", &tail_of(110..210));
    let pids = Filter { pids: [8].into(), ..Filter::default() };
    assert_eq!(disk.read(pids), (seconds(110..210), vec![]));
}

#[test]
fn a_block_that_overlaps_the_one_before_is_read_from_there() {
    // As in a copy: the block was still being filled when it was first fetched.
    let disk =
        Disk::new().segment(100, &[block(100..105), block(100..112), block(103..110), block(112..113)]);
    assert_eq!(disk.read(Filter::default()), (seconds(100..113), vec![]));
    let mut numbers = Reader::new(disk.path()).blocks(Filter::default()).unwrap();
    let numbers = numbers.by_ref().map(|block| block.header().unwrap().first_sequence).collect::<Vec<_>>();
    assert_eq!(numbers, [100, 105, 112]);
}

#[test]
fn damage_of_a_tail_is_reported_with_its_name_and_position() {
    let whole = tail_of(100..110);
    let used = tail::scan(&whole).unwrap().unwrap().good_bytes;
    let disk = Disk::new().with("tail.b", &whole[..used - 1]);
    let (read, lost) = disk.read(Filter::default());
    assert_eq!(read, seconds(100..109));
    let place = tail::scan(&whole[..used - 1]).unwrap().unwrap().good_bytes;
    assert_eq!(lost, [format!("tail.b cannot be read from byte {place} on: cut short")]);
    let (read, lost) = Disk::new().with("tail.a", b"MGPT and what else").read(Filter::default());
    assert_eq!(read, [] as [u64; 0]);
    assert_eq!(lost, ["tail.a, which may hold the newest samples, cannot be read: cut short"]);
}

#[test]
fn damage_that_is_longer_than_what_is_searched_at_once_is_passed_over() {
    let mut noise = vec![0xab; 200_000];
    noise[65_530..65_534].copy_from_slice(b"MGPB");
    let length = noise.len();
    let disk = Disk::new().segment(100, &[block(100..110), noise, block(110..120)]);
    let lost = format!(
        "{length} bytes of 00000000000000000100.blocks cannot be read: no magic number where a block or tail should begin"
    );
    assert_eq!(disk.read(Filter::default()), (seconds(100..120), vec![lost]));
}

#[test]
fn good_blocks_are_found_around_damage_and_each_piece_is_reported_once() {
    let mut damaged = block(110..120);
    let length = damaged.len();
    damaged[HEADER_BYTES + 6] ^= 1;
    let cut = block(130..140)[..50].to_vec();
    let disk = Disk::new().segment(100, &[block(100..110), damaged, block(120..130), cut]);
    let (read, lost) = disk.read(Filter::default());
    assert_eq!(read, [seconds(100..110), seconds(120..130)].concat());
    let of = "00000000000000000100.blocks cannot be read";
    let pieces =
        [format!("{length} bytes of {of}: checksum does not match"), format!("50 bytes of {of}: cut short")];
    assert_eq!(lost, [&pieces[0], "10 samples are missing", &pieces[1]]);
}

#[test]
fn a_file_that_cannot_be_opened_is_reported_and_the_rest_is_read() {
    let disk = Disk::new().segment(100, &[block(100..110)]).segment(120, &[block(120..130)]);
    fs::create_dir(segment_path(disk.path(), 110)).unwrap();
    let (read, lost) = disk.read(Filter::default());
    assert_eq!(read, [seconds(100..110), seconds(120..130)].concat());
    assert!(lost[0].contains("of 00000000000000000110.blocks cannot be read: Is a directory"), "{lost:?}");
    assert_eq!(lost[1..], ["10 samples are missing"]);
}

#[test]
fn what_was_shed_before_it_was_read_is_no_loss_and_what_is_shed_behind_it_is_missing() {
    let disk = || {
        Disk::new()
            .segment(100, &[block(100..110)])
            .segment(110, &[block(110..120)])
            .segment(120, &[block(120..130)])
            .with("tail.a", &tail_of(130..133))
    };
    let shed = |disk: &Disk, first| fs::remove_file(segment_path(disk.path(), first)).unwrap();
    let never = disk();
    let blocks = Reader::new(never.path()).blocks(Filter::default()).unwrap();
    [100, 110].into_iter().for_each(|first| shed(&never, first));
    assert_eq!(collect(blocks), (seconds(120..133), vec![]));

    let behind = disk();
    let mut blocks = Reader::new(behind.path()).blocks(Filter::default()).unwrap();
    assert_eq!(blocks.next().unwrap().lost, [] as [String; 0]);
    [100, 110].into_iter().for_each(|first| shed(&behind, first));
    assert_eq!(collect(blocks), (seconds(120..133), vec!["10 samples are missing".to_owned()]));
}

#[test]
fn the_newest_sample_is_not_that_of_a_tail_that_was_left_behind() {
    let second = |disk: &Disk| newest(disk.path()).unwrap().map(|sample| sample.wall_ms / 1_000);
    let disk =
        Disk::new().segment(100, &[block(100..110), block(110..120)]).with("tail.a", &tail_of(100..110));
    assert_eq!(second(&disk), Some(119));
    assert_eq!(second(&disk.with("tail.b", &tail_of(120..125))), Some(124));
    // The newest segment has no samples: the one before it has the newest.
    let disk = Disk::new().segment(100, &[block(100..110)]).segment(110, &[b"nothing".to_vec()]);
    assert_eq!(second(&disk), Some(109));
    assert_eq!(second(&Disk::new()), None);
}

#[test]
fn a_slow_follower_gets_the_losses_since_its_last_sample_only() {
    let mut damaged = block(100..110);
    damaged[200] ^= 1;
    let disk = Disk::new()
        .segment(100, &[damaged, block(110..120)])
        .segment(130, &[block(130..140)])
        .with("tail.a", &tail_of(142..145));
    let mut follower = Follower::new(disk.path(), Some(114)).unwrap();
    let found = follower.poll().unwrap();
    let seen: Vec<_> = found.iter().filter_map(|block| block.header()).collect();
    let numbers: Vec<_> = seen.iter().map(|header| (header.first_sequence, header.last_sequence())).collect();
    assert_eq!(numbers, [(115, 119), (130, 139), (142, 144)]);
    let lost: Vec<_> = found.into_iter().flat_map(|block| block.lost).collect();
    assert_eq!(lost, ["10 samples are missing", "2 samples are missing"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_read_without_panic(
        first in prop::collection::vec(any::<u8>(), 0..600),
        second in prop::collection::vec(any::<u8>(), 0..200),
        from in any::<u64>(),
    ) {
        let disk = Disk::new().segment(1, std::slice::from_ref(&first)).with("tail.a", &second).with("tail.b", &first);
        prop_assert_eq!(disk.read(Filter::default()).0, Vec::<u64>::new());
        prop_assert_eq!((disk.range(), newest(disk.path()).unwrap()), (None, None));
        Follower::new(disk.path(), Some(from)).unwrap().poll().unwrap();
        let (writer, _) = Writer::open(disk.path(), BootId::default(), 0, super::policy()).unwrap();
        drop(writer);
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
