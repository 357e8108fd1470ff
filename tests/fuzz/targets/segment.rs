//! A segment is read to its end whatever stands in it: what is given is good and in order, and a good block is found whatever
//! stands around it.
#![no_main]

use std::{fs, sync::LazyLock};

use fuzz::foreign;
use libfuzzer_sys::fuzz_target;
use record::{
    Block, MAGIC,
    directory::{Filter, Reader, segment_path},
    encode,
};
use tempfile::TempDir;

/// Blocks that follow each other; the last one is put behind what is foreign.
static BLOCKS: LazyLock<[Vec<u8>; 3]> =
    LazyLock::new(|| FIRST.map(|first| encode(&fuzz::samples(), first).expect("a block")));
static SEGMENTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| vec![BLOCKS[..2].concat()]);
static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().expect("a directory"));

/// Numbers of the first samples of the blocks.
const FIRST: [u64; 3] = [1_000, 2_000, 3_000];

/// Reads a record of this segment and returns the numbers of its blocks' first samples.
fn read(segment: &[u8]) -> Vec<u64> {
    fs::write(segment_path(DIRECTORY.path(), FIRST[0]), segment).expect("a file");
    let blocks = Reader::new(DIRECTORY.path()).blocks(Filter::default()).expect("a directory");
    let given = blocks.filter(|block| !block.data.is_empty());
    let numbers: Vec<_> =
        given.map(|block| Block::parse(&block.data).expect("it is good").header.first_sequence).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b));
    numbers
}

fuzz_target!(|data: &[u8]| {
    let mut segment = foreign(&SEGMENTS, data);
    let hidden = segment.windows(MAGIC.len()).any(|window| window == MAGIC);
    read(&segment);
    segment.extend_from_slice(&BLOCKS[2]);
    segment.extend_from_slice(data);
    assert!(read(&segment).contains(&FIRST[2]) || hidden);
});
