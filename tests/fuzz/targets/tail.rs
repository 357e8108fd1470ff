//! A tail is read up to its first damage, and what was read can be written again and becomes a good block.
#![no_main]

use std::sync::LazyLock;

use fuzz::{foreign, pieces, samples};
use libfuzzer_sys::fuzz_target;
use record::{Block, BootId, Encoder, Limits, Packer, tail};

const NO_LIMITS: Limits = Limits { records: u32::MAX, bytes: usize::MAX };

/// A whole tail of these records.
fn written<'a>(header: &tail::Header, records: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut file = Vec::new();
    header.write(&mut file);
    file.extend([0; tail::END_BYTES]);
    for record in records {
        file.truncate(file.len() - tail::END_BYTES);
        header.write_frame(record, &mut file);
    }
    file
}

static RECORDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut encoder = Encoder::new(NO_LIMITS);
    let encode = |sample| {
        let mut record = Vec::new();
        encoder.encode(sample, &mut record);
        record
    };
    samples().iter().map(encode).collect()
});

static EXAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let header = tail::Header::new(BootId([7; 16]), 41);
    vec![written(&header, RECORDS.iter().map(Vec::as_slice))]
});

/// A tail with right checksums: 8 bytes of sequence number, then records.
fn framed(data: &[u8]) -> Vec<u8> {
    let Some((sequence, records)) = data.split_first_chunk() else { return Vec::new() };
    let header = tail::Header::new(BootId::default(), u64::from_le_bytes(*sequence));
    written(&header, pieces(records))
}

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    let file = if mode & 1 == 1 { framed(data) } else { foreign(&EXAMPLES, data) };
    let Ok(Some(scan)) = tail::scan(&file) else { return };
    let tail::Scan { builder, good_bytes, .. } = scan;
    assert!(good_bytes <= file.len());

    let first_sequence = builder.first_sequence();
    let header = tail::Header::new(builder.boot_id(), first_sequence);
    let mut rest = &file[tail::HEADER_BYTES..];
    let mut records = Vec::new();
    while records.len() < builder.records() as usize {
        records.push(header.read_frame(&mut rest).expect("it was just read").expect("and is no end"));
    }
    let again = written(&header, records);
    assert_eq!(again[..good_bytes], file[..good_bytes]);
    let scan = tail::scan(&again).expect("its header is good").expect("and it is one");
    assert_eq!((scan.good_bytes, scan.damage), (good_bytes, None));

    let mut block = Vec::new();
    builder.seal(&mut Packer::new().expect("memory"), &mut block).expect("memory");
    if builder.records() > 0 {
        let header = Block::parse(&block).expect("a tail becomes a good block").header;
        assert_eq!((header.first_sequence, header.records), (first_sequence, builder.records()));
        let samples = |block: &[u8]| Block::parse(block)?.samples()?.collect::<Result<Vec<_>, _>>();
        assert_eq!(samples(&builder.stored()), samples(&block), "uncompressed it is the same");
    }
});
