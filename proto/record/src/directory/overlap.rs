//! Blocks that overlap: a tail that reaches further than the block that was made of it, or a block that was fetched while it
//! was still being filled, and fetched again later. What was there before is taken out of the second.

use crate::{Block, Builder, Damage, Encoder, Limits, Samples};

use super::unsealed::sealed;

/// A block without its samples before the one of this number; nothing if none is left. With it comes what ended the reading,
/// if that was damage: the samples before it are in the block. The samples are looked at one by one, since decoded they take
/// many times the memory of their block.
pub(super) fn without_before(data: &[u8], sequence: u64) -> (Vec<u8>, Option<Damage>) {
    let mut builder = None;
    let damage = Block::parse(data).and_then(|block| {
        let seen = sequence.saturating_sub(block.header.first_sequence);
        let rest = builder.insert(Builder::new(block.header.boot_id, block.header.first_sequence + seen));
        copy(block.samples()?, seen, rest)
    });
    (builder.as_ref().map(sealed).unwrap_or_default(), damage.err())
}

fn copy(mut samples: Samples, seen: u64, to: &mut Builder) -> Result<(), Damage> {
    let mut encoder = Encoder::new(Limits { records: u32::MAX, bytes: usize::MAX });
    let (mut number, mut record) = (0, Vec::new());
    while let Some(sample) = samples.advance() {
        let sample = sample?;
        if number >= seen {
            record.clear();
            encoder.encode(sample, &mut record);
            to.push(&record)?;
        }
        number += 1;
    }
    Ok(())
}
