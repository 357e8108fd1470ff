//! What readers rely on: samples come back as they were, and damage is an error that stays where it is.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{collection, option, prelude::*};

use super::*;

fn text() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![Just("".into()), Just("apache2".into()), "\\PC{0,24}".prop_map(Arc::from)]
}

fn identity() -> impl Strategy<Value = Identity> {
    // Few pids and start times, so that processes stay, go and are replaced under the same pid.
    (prop_oneof![0u32..6, Just(u32::MAX)], 0u64..3).prop_map(|(pid, started_ns)| Identity { pid, started_ns })
}

fn process() -> impl Strategy<Value = Process> {
    let names = (text(), option::of(text()), option::of(text()));
    let counters = any::<(u32, Option<u32>, u8, u32, u64, u64, u64, u64, u64)>();
    let memory = any::<[Option<u64>; 4]>();
    (names, counters, memory).prop_map(
        |((comm, user, command), c, [anon_kib, file_kib, shmem_kib, swap_kib])| Process {
            comm,
            user,
            command,
            parent: c.0,
            uid: c.1,
            state: c.2,
            threads: c.3,
            user_ns: c.4,
            system_ns: c.5,
            major_faults: c.6,
            virtual_kib: c.7,
            resident_kib: c.8,
            anon_kib,
            file_kib,
            shmem_kib,
            swap_kib,
            ..Process::bare(Identity::default())
        },
    )
}

fn sample() -> impl Strategy<Value = Sample> {
    let processes = collection::btree_map(identity(), process(), 0..12);
    let clocks = any::<(i64, u64, u64, u64, u64, u64)>();
    let host = collection::vec(any::<Option<u64>>(), HostCounters::default().values().count());
    (processes, clocks, host).prop_map(|(processes, clocks, counters): (BTreeMap<_, _>, _, Vec<_>)| {
        let mut host = HostCounters::default();
        host.values_mut().zip(counters).for_each(|(field, value)| *field = value);
        Sample {
            boot_id: BootId([7; 16]),
            wall_ms: clocks.0,
            boottime_ns: clocks.1,
            interval_ns: clocks.2,
            late_ns: clocks.3,
            sweep_ns: clocks.4,
            listed: clocks.5,
            host,
            processes: processes
                .into_iter()
                .map(|(identity, process)| Process { identity, ..process })
                .collect(),
        }
    })
}

fn decode(block: &[u8]) -> Result<Vec<Sample>, Damage> {
    Block::parse(block)?.samples()?.collect()
}

/// Two samples of two processes, one of which works.
fn small_block() -> (Vec<Sample>, Vec<u8>) {
    let process = |pid| Process {
        comm: "apache2".into(),
        command: Some("/usr/sbin/apache2 -k start".into()),
        ..Process::bare(Identity { pid, started_ns: 10_000_000 })
    };
    let first = Sample { wall_ms: 1_000, processes: vec![process(1), process(2)], ..Sample::default() };
    let mut second = Sample { wall_ms: 2_000, ..first.clone() };
    second.processes[1].user_ns = 20_000_000;
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
    fn a_record_of_any_bytes_never_panics(bytes: Vec<u8>) {
        let mut decoder = Decoder::new(BootId::default());
        let mut input = bytes.as_slice();
        while decoder.decode(&mut input).is_ok() {}
    }

    #[test]
    fn a_record_with_changed_bytes_never_panics(
        samples in collection::vec(sample(), 2..4),
        changes in collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut encoder = Encoder::default();
        let mut records = Vec::new();
        samples.iter().for_each(|sample| encoder.encode(sample, &mut records));
        for (index, byte) in changes {
            let index = index.index(records.len());
            records[index] = byte;
        }
        let mut decoder = Decoder::new(BootId::default());
        let mut input = records.as_slice();
        while decoder.decode(&mut input).is_ok() {}
    }

    #[test]
    fn a_tail_of_any_bytes_never_panics(bytes: Vec<u8>) {
        let header = tail::Header { boot_id: BootId::default(), first_sequence: 0 };
        let mut file = header.write();
        file.extend(&bytes);
        let scan = tail::scan(&file).unwrap();
        prop_assert!(scan.good_bytes <= file.len());
        let _ = tail::scan(&bytes);
        let _ = Block::parse(&bytes);
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
        "format version 9, but this program reads version 1: use the matching version"
    );
}

#[test]
fn a_record_that_leans_on_a_missing_one_is_refused() {
    let (samples, _) = small_block();
    let (mut encoder, mut first, mut second) = (Encoder::default(), Vec::new(), Vec::new());
    encoder.encode(&samples[0], &mut first);
    encoder.encode(&samples[1], &mut second);
    assert!(Decoder::new(BootId::default()).decode(&mut second.as_slice()).is_err());
    encoder.restart();
    let mut key = Vec::new();
    encoder.encode(&samples[1], &mut key);
    assert_eq!(Decoder::new(BootId::default()).decode(&mut key.as_slice()), Ok(&samples[1]));
}

#[test]
fn idle_processes_cost_nothing() {
    let processes: Vec<_> = (1..=500).map(|pid| Process::bare(Identity { pid, started_ns: 5 })).collect();
    let sample = Sample { processes, ..Sample::default() };
    let mut encoder = Encoder::default();
    let mut record = Vec::new();
    encoder.encode(&sample, &mut record);
    record.clear();
    encoder.encode(&sample, &mut record);
    assert!(record.len() < 100, "{} bytes", record.len());
}

#[test]
fn a_tail_cut_anywhere_keeps_every_whole_record() {
    let (samples, _) = small_block();
    let mut encoder = Encoder::default();
    let mut file = tail::Header { boot_id: BootId::default(), first_sequence: 41 }.write();
    let mut ends = Vec::new();
    for sample in &samples {
        let mut record = Vec::new();
        encoder.encode(sample, &mut record);
        tail::write_frame(&record, &mut file);
        ends.push(file.len());
    }
    for length in tail::HEADER_BYTES..=file.len() {
        let scan = tail::scan(&file[..length]).unwrap();
        let whole = ends.iter().filter(|end| **end <= length).count();
        assert_eq!(scan.builder.records() as usize, whole, "length {length}");
        assert_eq!(scan.damage.is_none(), scan.good_bytes == length);
        let block = scan.builder.seal();
        let found = block.map_or(Ok(Vec::new()), |block| decode(&block.unwrap()));
        assert_eq!(found.as_deref(), Ok(&samples[..whole]));
    }
}

#[test]
fn a_tail_whose_numbers_run_out_is_damaged_and_what_it_holds_becomes_a_block() {
    let (samples, _) = small_block();
    let mut record = Vec::new();
    Encoder::default().encode(&samples[0], &mut record);
    for (first_sequence, records) in [(u64::MAX, 0), (u64::MAX - 1, 1)] {
        let mut file = tail::Header { boot_id: BootId::default(), first_sequence }.write();
        tail::write_frame(&record, &mut file);
        tail::write_frame(&record, &mut file);
        let scan = tail::scan(&file).unwrap();
        assert_eq!(scan.damage, Some(Damage::Inconsistent("a block's sequence numbers")));
        assert_eq!(scan.builder.next_sequence(), u64::MAX);
        assert_eq!(scan.builder.records(), records);
        assert!(scan.builder.seal().is_none_or(|block| Block::parse(&block.unwrap()).is_ok()));
    }
}

#[test]
fn good_blocks_are_found_around_damage() {
    let (_, block) = small_block();
    let mut file = [block.as_slice(), &block, &block].concat();
    file[block.len() + 90] ^= 1;
    file.extend(&block[..50]);
    let found: Vec<_> = walk(&file)
        .map(|found| match found {
            Found::Block(at, _) => (at, true),
            Found::Damaged(at, _) => (at, false),
        })
        .collect();
    let length = block.len();
    assert_eq!(found, [(0, true), (length, false), (2 * length, true), (3 * length, false)]);
}
