//! A block that is read holds what its header says, or ends with an error; with checksums that are right, too.
#![no_main]

use std::sync::LazyLock;

use fuzz::{foreign, samples};
use libfuzzer_sys::fuzz_target;
use proto::history::{Block, HEADER_BYTES, encode};

static EXAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| vec![encode(&samples(), 41).expect("a block")]);

/// Makes length and checksums right, as a hostile host would.
fn repair(block: &mut [u8]) {
    if let Some((header, body)) = block.split_first_chunk_mut::<HEADER_BYTES>() {
        header[8..12].copy_from_slice(&(body.len() as u32).to_le_bytes());
        header[76..80].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
        let crc = crc32c::crc32c(&header[..80]);
        header[80..].copy_from_slice(&crc.to_le_bytes());
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    let mut bytes = foreign(&EXAMPLES, data);
    if mode & 1 == 1 {
        repair(&mut bytes);
    }
    let Ok(block) = Block::parse(&bytes) else { return };
    let header = block.header;
    assert!(header.block_bytes() <= bytes.len() && header.last_sequence() >= header.first_sequence);
    let Ok(read) = block.samples() else { return };
    let read: Vec<_> = read.take(1_000).collect();
    let damaged = read.iter().position(Result::is_err);
    assert!(damaged.is_none_or(|at| at == read.len() - 1), "samples after damage");
    let Ok(samples) = read.into_iter().collect::<Result<Vec<_>, _>>() else { return };
    assert_eq!(samples.len(), header.records.min(1_000) as usize);
    let again = encode(&samples, header.first_sequence).expect("it was a block before");
    let again = Block::parse(&again).expect("it was just written").samples().expect("and compressed");
    assert_eq!(again.collect::<Result<Vec<_>, _>>().as_ref(), Ok(&samples));
});
