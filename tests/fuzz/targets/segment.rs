//! A walk tells of every byte once and in order, and finds a good block whatever stands around it.
#![no_main]

use std::sync::LazyLock;

use fuzz::foreign;
use libfuzzer_sys::fuzz_target;
use record::{Block, Found, MAGIC, encode, walk};

static BLOCK: LazyLock<Vec<u8>> = LazyLock::new(|| encode(&fuzz::samples(), 41).expect("a block"));
static SEGMENTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| vec![BLOCK.repeat(2)]);

/// Checks the walk and says where it found good blocks.
fn good(segment: &[u8]) -> Vec<usize> {
    let mut found = walk(segment).peekable();
    let mut good = Vec::new();
    let mut due = Some(0);
    while let Some(what) = found.next() {
        let (Found::Block(at, _) | Found::Damaged(at, _)) = what;
        assert!(due.is_none_or(|due| due == at) && at < segment.len());
        due = match &what {
            Found::Block(at, block) => {
                let again = Block::parse(&segment[*at..]).expect("it is good");
                assert_eq!(again.header, block.header);
                good.push(*at);
                Some(at + block.header.block_bytes())
            }
            Found::Damaged(..) => {
                assert!(matches!(found.peek(), None | Some(Found::Block(..))), "damage in two pieces");
                None
            }
        };
    }
    assert!(due.is_none_or(|due| due == segment.len()));
    good
}

fuzz_target!(|data: &[u8]| {
    let mut segment = foreign(&SEGMENTS, data);
    let before = segment.len();
    let hidden = segment.windows(MAGIC.len()).any(|window| window == MAGIC);
    good(&segment);
    segment.extend_from_slice(&BLOCK);
    segment.extend_from_slice(data);
    assert!(good(&segment).contains(&before) || hidden);
});
