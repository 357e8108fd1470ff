//! A block that is read holds what its header says, or ends with an error; with checksums that are right, too.
#![no_main]

use std::{collections::BTreeSet, sync::LazyLock};

use fuzz::{foreign, samples};
use libfuzzer_sys::fuzz_target;
use record::{Block, Columns, HEADER_BYTES, Process, Sample, encode, index as index_of};

static EXAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| vec![encode(&samples(), 41).expect("a block")]);

/// Makes length and checksums right, as a hostile host would.
fn repair(block: &mut [u8]) {
    if let Some((header, body)) = block.split_first_chunk_mut::<HEADER_BYTES>() {
        header[8..12].copy_from_slice(&(body.len() as u32).to_le_bytes());
        let index = u32::from_le_bytes(header[80..84].try_into().expect("four bytes")) as usize;
        let index = crc32c::crc32c(&body[..index.min(body.len())]);
        header[84..88].copy_from_slice(&index.to_le_bytes());
        header[88..92].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
        let crc = crc32c::crc32c(&header[..92]);
        header[92..].copy_from_slice(&crc.to_le_bytes());
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
    let mut named = BTreeSet::new();
    let index = &bytes[HEADER_BYTES..][..header.index_bytes as usize];
    let indexed = index_of(&header, index, |identity| {
        named.insert(identity);
    });
    let Ok(read) = block.samples() else { return };
    let read: Vec<_> = read.take(1_000).collect();
    let damaged = read.iter().position(Result::is_err);
    assert!(damaged.is_none_or(|at| at == read.len() - 1), "samples after damage");
    let good: Vec<_> = read.iter().map_while(|sample| sample.as_ref().ok()).collect();
    let pids: Vec<u32> = named.first().iter().map(|identity| identity.pid).collect();
    let few = block.samples_of_processes(Columns::ALL, &pids).expect("all were read");
    let few: Vec<_> = few.take(1_000).map_while(Result::ok).collect();
    assert!(few.len() >= good.len(), "what is good as a whole is good in part");
    for (few, all) in few.iter().zip(good) {
        let of_these = |sample: &Sample| -> Vec<Process> {
            sample.processes.iter().filter(|process| pids.contains(&process.identity.pid)).cloned().collect()
        };
        assert_eq!((of_these(few), &few.host), (of_these(all), &all.host));
    }
    let Ok(samples) = read.into_iter().collect::<Result<Vec<_>, _>>() else { return };
    let mut all = samples.iter().flat_map(|sample| &sample.processes).map(|process| process.identity);
    assert!(indexed.is_err() || all.all(|identity| named.contains(&identity)));
    assert_eq!(samples.len(), header.records.min(1_000) as usize);
    let again = encode(&samples, header.first_sequence).expect("it was a block before");
    let again = Block::parse(&again).expect("it was just written").samples().expect("and compressed");
    assert_eq!(again.collect::<Result<Vec<_>, _>>().as_ref(), Ok(&samples));
});
