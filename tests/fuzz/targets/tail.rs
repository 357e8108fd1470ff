//! A tail is read up to its first damage, and what was read can be written again and becomes a good block.
#![no_main]

use std::sync::LazyLock;

use fuzz::{foreign, pieces, samples};
use libfuzzer_sys::fuzz_target;
use proto::history::{Block, BootId, Encoder, tail};

static EXAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut file = tail::Header { boot_id: BootId([7; 16]), first_sequence: 41 }.write();
    let mut encoder = Encoder::default();
    for sample in samples() {
        let mut record = Vec::new();
        encoder.encode(&sample, &mut record);
        tail::write_frame(&record, &mut file);
    }
    vec![file]
});

/// A tail with right checksums: 8 bytes of sequence number, then records.
fn framed(data: &[u8]) -> Vec<u8> {
    let Some((sequence, records)) = data.split_first_chunk() else { return Vec::new() };
    let header = tail::Header { boot_id: BootId::default(), first_sequence: u64::from_le_bytes(*sequence) };
    let mut file = header.write();
    pieces(records).into_iter().for_each(|record| tail::write_frame(record, &mut file));
    file
}

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    let file = if mode & 1 == 1 { framed(data) } else { foreign(&EXAMPLES, data) };
    let Ok(scan) = tail::scan(&file) else { return };
    assert!(scan.good_bytes <= file.len());
    assert_eq!(scan.damage.is_none(), scan.good_bytes == file.len());
    let good = tail::scan(&file[..scan.good_bytes]).expect("the header is whole");
    assert_eq!((good.good_bytes, good.damage), (scan.good_bytes, None));
    assert_eq!(good.builder.next_sequence(), scan.builder.next_sequence());

    let first_sequence = scan.builder.first_sequence();
    let mut again = tail::Header { boot_id: scan.builder.boot_id(), first_sequence }.write();
    let mut rest = &file[tail::HEADER_BYTES..scan.good_bytes];
    while !rest.is_empty() {
        tail::write_frame(tail::read_frame(&mut rest).expect("it was just read"), &mut again);
    }
    assert_eq!(again, file[..scan.good_bytes]);

    let Some(block) = scan.builder.seal() else { return };
    let block = block.expect("memory");
    let header = Block::parse(&block).expect("a tail becomes a good block").header;
    assert_eq!((header.first_sequence, header.records), (first_sequence, scan.builder.records()));
});
