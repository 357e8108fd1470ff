//! Guarantees for readers: samples are decoded unchanged, and damage is a local error.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::{collection, option, prelude::*};

use super::*;
use crate::sample::*;

fn text() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![Just("".into()), Just("apache2".into()), "\\PC{0,24}".prop_map(Arc::from)]
}

fn identity() -> impl Strategy<Value = Identity> {
    // Few pids and start times, so that processes stay, disappear, and reuse pids.
    (prop_oneof![0u32..6, Just(u32::MAX)], 0u64..3).prop_map(|(pid, started_ns)| Identity { pid, started_ns })
}

fn process() -> impl Strategy<Value = Process> {
    let texts = (text(), option::of(text()), option::of(text()), option::of(text()));
    let counters = any::<(u32, Option<u32>, u8, u32, [u64; 5], [Option<u64>; 7])>();
    (texts, counters).prop_map(|((comm, user, command, cgroup), (parent, uid, state, threads, c, o))| {
        Process {
            comm,
            user,
            command,
            cgroup,
            parent,
            uid,
            state,
            threads,
            user_us: c[0],
            system_us: c[1],
            major_faults: c[2],
            virtual_kib: c[3],
            resident_kib: c[4],
            wait_us: o[0],
            anon_kib: o[1],
            file_kib: o[2],
            shmem_kib: o[3],
            swap_kib: o[4],
            read_bytes: o[5],
            written_bytes: o[6],
            ..Process::bare(Identity::default())
        }
    })
}

fn exit() -> impl Strategy<Value = Exit> {
    (identity(), text(), any::<([u32; 3], [u64; 8])>()).prop_map(|(identity, comm, (small, c))| Exit {
        identity,
        comm,
        parent: small[0],
        uid: small[1],
        status: small[2],
        at_ns: c[0],
        lived_us: c[1],
        user_us: c[2],
        system_us: c[3],
        peak_kib: c[4],
        major_faults: c[5],
        read_bytes: c[6],
        written_bytes: c[7],
    })
}

fn exit_group() -> impl Strategy<Value = ExitGroup> {
    (text(), any::<(u32, [u64; 4])>()).prop_map(|(comm, (parent, [count, failed, cpu_us, peak_kib]))| {
        ExitGroup { parent, comm, count, failed, cpu_us, peak_kib }
    })
}

fn event() -> impl Strategy<Value = Event> {
    let kind = prop_oneof![Just(EventKind::Kernel), Just(EventKind::Note), Just(EventKind::Stacks)];
    (any::<u64>(), kind, text()).prop_map(|(at_ns, kind, text)| Event { at_ns, kind, text })
}

fn disk() -> impl Strategy<Value = Disk> {
    (text(), any::<[u64; 6]>()).prop_map(|(name, c)| Disk {
        name,
        reads: c[0],
        read_bytes: c[1],
        writes: c[2],
        written_bytes: c[3],
        busy_ms: c[4],
        queued_ms: c[5],
    })
}

fn filesystem() -> impl Strategy<Value = Filesystem> {
    (text(), any::<([u64; 4], bool)>()).prop_map(
        |(mount, ([total_bytes, free_bytes, files, free_files], in_memory))| Filesystem {
            mount,
            total_bytes,
            free_bytes,
            files,
            free_files,
            in_memory,
        },
    )
}

fn group() -> impl Strategy<Value = Group> {
    let counters = collection::vec(any::<Option<u64>>(), GroupCounters::COUNT);
    (text(), counters).prop_map(|(path, values)| {
        let mut counters = GroupCounters::default();
        counters.values_mut().into_iter().zip(values).for_each(|(field, value)| *field = value);
        Group { path, counters }
    })
}

fn host() -> impl Strategy<Value = HostCounters> {
    collection::vec(any::<Option<u64>>(), HostCounters::COUNT).prop_map(|counters| {
        let mut host = HostCounters::default();
        host.values_mut().into_iter().zip(counters).for_each(|(field, value)| *field = value);
        host
    })
}

/// A sample without processes.
fn bare_sample() -> impl Strategy<Value = Sample> {
    let numbers = any::<(i64, u32, [u64; 8], bool, u32, bool, Option<u64>)>();
    let devices =
        (collection::vec(disk(), 0..3), collection::vec(filesystem(), 0..3), collection::vec(group(), 0..3));
    let happened =
        (collection::vec(exit(), 0..3), collection::vec(exit_group(), 0..3), collection::vec(event(), 0..3));
    (numbers, host(), devices, happened).prop_map(
        |(n, host, (disks, filesystems, groups), (exits, exit_groups, events))| Sample {
            groups,
            boot_id: BootId([7; 16]),
            wall_ms: n.0,
            interval_ms: n.1,
            boottime_ns: n.2[0],
            late_ns: n.2[1],
            sweep_ns: n.2[2],
            own_cpu_us: n.2[3],
            dropped: n.2[4],
            listed: n.2[5],
            rss_error_kib: n.2[6],
            own_start_ns: n.2[7],
            collector: if n.3 { Collector::Bpf } else { Collector::Proc },
            sources: Sources(n.4),
            fast: n.5,
            exits_lost: n.6,
            host,
            disks,
            filesystems,
            exits,
            exit_groups,
            events,
            processes: Vec::new(),
        },
    )
}

pub(super) fn sample() -> impl Strategy<Value = Sample> {
    let processes = collection::btree_map(identity(), process(), 0..12);
    (bare_sample(), processes).prop_map(|(sample, processes): (_, BTreeMap<_, _>)| Sample {
        processes: processes.into_iter().map(|(identity, process)| Process { identity, ..process }).collect(),
        ..sample
    })
}

const NO_LIMITS: Limits = Limits { records: u32::MAX, bytes: usize::MAX };

fn encoder() -> Encoder {
    Encoder::new(NO_LIMITS)
}

/// Records of these samples, the first a key.
fn records(samples: &[Sample]) -> Vec<Vec<u8>> {
    let mut encoder = encoder();
    let encode = |sample| {
        let mut record = Vec::new();
        encoder.encode(sample, &mut record);
        record
    };
    samples.iter().map(encode).collect()
}

fn seal(builder: &Builder) -> Vec<u8> {
    let mut block = Vec::new();
    builder.seal(&mut Packer::new().unwrap(), &mut block).unwrap();
    if !block.is_empty() {
        assert_eq!(decode(&builder.stored()), decode(&block), "uncompressed it is the same");
    }
    block
}

fn decode(block: &[u8]) -> Result<Vec<Sample>, Damage> {
    Block::parse(block)?.samples()?.collect()
}

/// Two samples of two processes, of which one is active.
fn small_block() -> (Vec<Sample>, Vec<u8>) {
    let process = |pid| Process {
        comm: "apache2".into(),
        command: Some("/usr/sbin/apache2 -k start".into()),
        ..Process::bare(Identity { pid, started_ns: 10_000_000 })
    };
    let first = Sample { wall_ms: 1_000, processes: vec![process(1), process(2)], ..Sample::default() };
    let mut second = Sample { wall_ms: 2_000, ..first.clone() };
    second.processes[1].user_us = 20_000;
    let samples = vec![first, second];
    let block = encode(&samples, 41).unwrap();
    (samples, block)
}

proptest! {
    #[test]
    fn samples_come_back_as_they_were(samples in collection::vec(sample(), 1..6), sequence in 0u64..1 << 60) {
        let block = encode(&samples, sequence).unwrap();
        let header = Block::parse(&block).unwrap().header;
        prop_assert_eq!(header.first_sequence, sequence);
        prop_assert_eq!(header.last_sequence(), sequence + samples.len() as u64 - 1);
        prop_assert_eq!(header.block_bytes(), block.len());
        prop_assert_eq!(decode(&block), Ok(samples));
    }

    #[test]
    fn records_come_back_one_by_one(samples in collection::vec(sample(), 1..6)) {
        let mut decoder = Decoder::new(BootId([7; 16]), VERSION);
        for (record, sample) in records(&samples).iter().zip(&samples) {
            prop_assert_eq!(decoder.decode(record), Ok(sample));
        }
    }

    #[test]
    fn some_columns_are_read_without_the_others(samples in collection::vec(sample(), 1..6)) {
        let block = encode(&samples, 1).unwrap();
        let columns = Columns::RESIDENT.with(Columns::SWAP);
        let mut found = Block::parse(&block).unwrap().samples_of(columns).unwrap();
        for sample in &samples {
            let expected = sample.processes.iter().map(|process| Process {
                comm: process.comm.clone(),
                user: process.user.clone(),
                command: process.command.clone(),
                cgroup: process.cgroup.clone(),
                resident_kib: process.resident_kib,
                swap_kib: process.swap_kib,
                ..Process::bare(process.identity)
            });
            let found = found.advance().unwrap().unwrap();
            prop_assert_eq!(&found.processes, &expected.collect::<Vec<_>>());
            prop_assert_eq!(&found.host, &sample.host);
        }
        prop_assert!(found.advance().is_none());
    }

    #[test]
    fn some_processes_are_read_without_the_others(
        samples in collection::vec(sample(), 1..6),
        chosen in collection::vec(any::<prop::sample::Index>(), 0..3),
        columns in prop_oneof![Just(Columns::ALL), Just(Columns::USER.with(Columns::ANON))],
    ) {
        let known: Vec<u32> =
            samples.iter().flat_map(|sample| &sample.processes).map(|process| process.identity.pid).collect();
        let pids: Vec<u32> = chosen.iter().filter(|_| !known.is_empty()).map(|index| *index.get(&known)).collect();
        let block = encode(&samples, 1).unwrap();
        let block = Block::parse(&block).unwrap();
        let whole = block.samples_of(columns).unwrap();
        let mut few = block.samples_of_processes(columns, &pids).unwrap();
        for whole in whole {
            let mut whole = whole.unwrap();
            for process in &mut whole.processes {
                if !pids.contains(&process.identity.pid) {
                    *process = Process::bare(process.identity);
                }
            }
            prop_assert_eq!(few.advance().unwrap(), Ok(&whole));
        }
        prop_assert!(few.advance().is_none());
    }

    #[test]
    fn the_index_names_every_process(samples in collection::vec(sample(), 1..6)) {
        let block = encode(&samples, 1).unwrap();
        let header = Header::parse(&block).unwrap();
        let mut found = BTreeSet::new();
        let bytes = &block[HEADER_BYTES..][..header.index_bytes as usize];
        index(&header, bytes, |identity| { found.insert(identity); }).unwrap();
        let expected = samples.iter().flat_map(|sample| &sample.processes).map(|process| process.identity);
        prop_assert_eq!(found, expected.collect());
    }

    #[test]
    fn a_record_of_any_bytes_never_panics(bytes: Vec<u8>) {
        let _ = Decoder::new(BootId::default(), VERSION).decode(&bytes);
    }

    #[test]
    fn a_record_with_changed_bytes_never_panics(
        samples in collection::vec(sample(), 2..4),
        changes in collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut records = records(&samples);
        for (record, index, byte) in changes {
            let record = record.index(records.len());
            let index = index.index(records[record].len());
            records[record][index] = byte;
        }
        let mut decoder = Decoder::new(BootId::default(), VERSION);
        for record in &records {
            let _ = decoder.decode(record);
        }
    }

    #[test]
    fn a_tail_of_any_bytes_never_panics(bytes: Vec<u8>) {
        let header = tail::Header::new(BootId::default(), 0);
        let mut file = Vec::new();
        header.write(&mut file);
        file.extend(&bytes);
        let scan = tail::scan(&file).unwrap().unwrap();
        prop_assert!(scan.good_bytes <= file.len());
        let _ = tail::scan(&bytes);
        let _ = Block::parse(&bytes);
    }

    #[test]
    fn a_whole_body_of_any_bytes_never_panics(records in 1u32..4, raw in 0u32..200, index in 0u32..80, body: Vec<u8>) {
        let mut block = Vec::new();
        let header = Header {
            records,
            raw_bytes: raw,
            index_bytes: index.min(body.len() as u32),
            body_bytes: body.len() as u32,
            body_crc: crc32c::crc32c(&body),
            ..Header::default()
        };
        header.write(&mut block);
        block.extend(&body);
        let _ = decode(&block);
    }
}

#[test]
fn every_flipped_bit_of_a_block_is_noticed() {
    let (_, block) = small_block();
    for index in 0..block.len() {
        for bit in 0..8 {
            let mut damaged = block.clone();
            damaged[index] ^= 1 << bit;
            assert!(Block::parse(&damaged).is_err(), "byte {index}, bit {bit}");
        }
    }
}

#[test]
fn a_block_cut_anywhere_is_cut_short() {
    let (samples, block) = small_block();
    for length in 0..block.len() {
        assert_eq!(Block::parse(&block[..length]).err(), Some(Damage::Cut), "length {length}");
    }
    assert_eq!(decode(&block), Ok(samples));
}

#[test]
fn a_newer_version_says_why_it_is_not_readable() {
    let (_, mut block) = small_block();
    block[4] = 9;
    let error = Block::parse(&block).err().unwrap();
    assert_eq!(
        error.to_string(),
        "format version 9, but this program reads 2 to 3: use the matching version"
    );
}

#[test]
fn a_record_that_depends_on_a_missing_one_is_refused() {
    let (samples, _) = small_block();
    let (mut encoder, mut first, mut second) = (encoder(), Vec::new(), Vec::new());
    encoder.encode(&samples[0], &mut first);
    encoder.encode(&samples[1], &mut second);
    assert!(Decoder::new(BootId::default(), VERSION).decode(&second).is_err());
    encoder.restart();
    let mut key = Vec::new();
    encoder.encode(&samples[1], &mut key);
    assert_eq!(Decoder::new(BootId::default(), VERSION).decode(&key), Ok(&samples[1]));
}

#[test]
fn a_key_comes_when_a_block_is_full() {
    let (samples, _) = small_block();
    let mut encoder = Encoder::new(Limits { records: 3, bytes: usize::MAX });
    let keys = (0..7).map(|_| {
        let mut record = Vec::new();
        encoder.encode(&samples[0], &mut record);
        Prefix::parse(&record).unwrap().key
    });
    assert_eq!(keys.collect::<Vec<_>>(), [true, false, false, true, false, false, true]);

    let mut builder = Builder::new(BootId::default(), 1);
    let records = records(&samples);
    assert!(builder.push(&records[1]).is_err(), "no block begins with what leans on another record");
    builder.push(&records[0]).unwrap();
    assert!(builder.push(&records[0]).is_err(), "no block has two keys");
}

#[test]
fn a_header_tells_of_gaps_and_contents() {
    let at = |second: u64| Sample {
        wall_ms: 100_000 - second as i64,
        boottime_ns: second * 1_000_000_000,
        interval_ms: 1_000,
        ..Sample::default()
    };
    let mut killed = at(9);
    killed.host.oom_kills = Some(1);
    let calm = Sample { host: HostCounters { oom_kills: Some(0), ..HostCounters::default() }, ..at(1) };
    let block = encode(&[calm, at(2), Sample { host: killed.host, ..at(3) }, killed.clone()], 5).unwrap();
    let header = Header::parse(&block).unwrap();
    assert_eq!((header.earliest_wall_ms, header.latest_wall_ms), (99_991, 99_999));
    assert_eq!((header.longest_gap_ms, header.contents), (6_000, Contents::default()));
    let before = Sample { host: HostCounters { oom_kills: Some(0), ..HostCounters::default() }, ..at(8) };
    let block = encode(&[before, killed], 5).unwrap();
    let header = Header::parse(&block).unwrap();
    assert_eq!((header.longest_gap_ms, header.contents), (0, Contents::OOM_KILLS));
}

#[test]
fn idle_processes_cost_nothing() {
    let processes: Vec<_> = (1..=500).map(|pid| Process::bare(Identity { pid, started_ns: 5 })).collect();
    let sample = Sample { processes, ..Sample::default() };
    let records = records(&[sample.clone(), sample]);
    assert!(records[1].len() < 100, "{} bytes", records[1].len());
}

#[test]
fn a_tail_cut_anywhere_keeps_every_whole_record() {
    let (samples, _) = small_block();
    let header = tail::Header::new(BootId::default(), 41);
    let mut file = Vec::new();
    header.write(&mut file);
    let mut ends = Vec::new();
    for record in records(&samples) {
        header.write_frame(&record, &mut file);
        file.truncate(file.len() - tail::END_BYTES);
        ends.push(file.len());
    }
    file.extend([0; tail::END_BYTES]);
    for length in tail::HEADER_BYTES..=file.len() {
        let scan = tail::scan(&file[..length]).unwrap().unwrap();
        let whole = ends.iter().filter(|end| **end <= length).count();
        assert_eq!(scan.builder.records() as usize, whole, "length {length}");
        assert_eq!(scan.damage.is_none(), length == file.len());
        let found = if whole == 0 { Ok(Vec::new()) } else { decode(&seal(&scan.builder)) };
        assert_eq!(found.as_deref(), Ok(&samples[..whole]));
    }
}

#[test]
fn a_tail_that_is_written_over_shows_nothing_of_what_was_there() {
    let (samples, _) = small_block();
    let records = records(&samples);
    let mut file = Vec::new();
    let old = tail::Header::new(BootId::default(), 41);
    old.write(&mut file);
    for record in &records {
        old.write_frame(record, &mut file);
        file.truncate(file.len() - tail::END_BYTES);
    }
    let mut fresh = Vec::new();
    let new = tail::Header { first_sequence: 43, ..old };
    new.write(&mut fresh);
    new.write_frame(&records[0], &mut fresh);
    // Without the end mark, so that the old frame follows directly.
    let length = fresh.len() - tail::END_BYTES;
    file[..length].copy_from_slice(&fresh[..length]);
    let scan = tail::scan(&file).unwrap().unwrap();
    assert_eq!((scan.builder.first_sequence(), scan.builder.records()), (43, 1));
    assert_eq!(scan.damage, Some(Damage::Checksum));
    assert!(tail::scan(&[0; 100]).unwrap().is_none(), "never written to");
}

#[test]
fn a_tail_whose_numbers_run_out_is_damaged_and_what_it_holds_becomes_a_block() {
    let (samples, _) = small_block();
    let records = records(&samples);
    for (first_sequence, count) in [(u64::MAX, 0), (u64::MAX - 1, 1)] {
        let header = tail::Header::new(BootId::default(), first_sequence);
        let mut file = Vec::new();
        header.write(&mut file);
        for record in &records {
            header.write_frame(record, &mut file);
            file.truncate(file.len() - tail::END_BYTES);
        }
        let scan = tail::scan(&file).unwrap().unwrap();
        assert_eq!(scan.damage, Some(Damage::Inconsistent("a block's sequence numbers")));
        assert_eq!(scan.builder.next_sequence(), u64::MAX);
        assert_eq!(scan.builder.records(), count);
        assert!(count == 0 || Block::parse(&seal(&scan.builder)).is_ok());
    }
}

#[test]
fn a_kill_counted_between_two_blocks_is_in_the_second() {
    let mut encoder = Encoder::new(Limits { records: u32::MAX, bytes: usize::MAX });
    let mut contents = |kills| {
        let host = HostCounters { cgroup_oom_kills: Some(kills), ..HostCounters::default() };
        let mut record = Vec::new();
        encoder.encode(&Sample { host, ..Sample::default() }, &mut record);
        encoder.restart();
        Prefix::parse(&record).unwrap().contents
    };
    assert!(
        [contents(4), contents(5), contents(5)].map(|found| found.intersects(Contents::OOM_KILLS))
            == [false, true, false]
    );
}

/// Two samples with something of every kind.
fn version_2() -> Vec<Sample> {
    let process = |pid, user_us| Process {
        parent: 1,
        uid: Some(33),
        user: Some("www-data".into()),
        comm: "apache2".into(),
        command: Some("/usr/sbin/apache2 -k start".into()),
        cgroup: Some("/system.slice/apache2.service".into()),
        user_us,
        anon_kib: Some(35_000),
        ..Process::bare(Identity { pid, started_ns: 10_000_000 })
    };
    let first = Sample {
        boot_id: BootId([7; 16]),
        wall_ms: 1_310_515_888_000,
        boottime_ns: 61_000_000_000,
        interval_ms: 1_000,
        exits_lost: Some(3),
        host: HostCounters {
            cpus: Some(2),
            memory_total_kib: Some(628_000),
            cgroup_peak_kib: Some(9),
            ..HostCounters::default()
        },
        disks: vec![Disk { name: "vda".into(), reads: 4, queued_ms: 5, ..Disk::default() }],
        filesystems: vec![Filesystem {
            mount: "/".into(),
            total_bytes: 8 << 30,
            free_files: 7,
            ..Filesystem::default()
        }],
        events: vec![Event { at_ns: 60_500_000_000, kind: EventKind::Note, text: "a note".into() }],
        processes: vec![process(30, 0), process(31, 5)],
        ..Sample::default()
    };
    let mut second = Sample {
        wall_ms: 1_310_515_889_000,
        boottime_ns: 62_000_000_000,
        events: Vec::new(),
        ..first.clone()
    };
    second.processes[1].user_us = 20_000;
    second.host.oom_kills = Some(1);
    vec![first, second]
}

/// `fixtures` were written by the last program with version 2 of the format.
#[test]
fn blocks_and_tails_of_version_2_are_still_read() {
    let samples = version_2();
    let block = include_bytes!("fixtures/version-2.block");
    assert_eq!(Block::parse(block).unwrap().header.version, 2);
    assert_eq!(decode(block), Ok(samples.clone()));

    let file = include_bytes!("fixtures/version-2.tail");
    let scan = tail::scan(file).unwrap().unwrap();
    assert_eq!((scan.damage, scan.good_bytes), (None, file.len() - tail::END_BYTES));
    // A recorder that starts after an update makes a block of the tail, of its own version.
    assert_eq!(decode(&scan.builder.stored()), Ok(samples.clone()));
    let header = tail::Header::parse(file).unwrap().unwrap();
    let mut decoder = Decoder::new(header.boot_id, header.version);
    let mut rest = &file[tail::HEADER_BYTES..];
    for sample in &samples {
        let record = header.read_frame(&mut rest).unwrap().unwrap();
        assert_eq!(decoder.decode(record), Ok(sample));
    }
}
