//! Overlapping blocks: a tail that continues beyond the block made from it, or a block that was fetched before it was full and
//! fetched again later. Samples of the first are removed from the second.

use crate::{Block, Builder, Damage, Encoder, Limits, Samples};

use super::unsealed::sealed;

/// Returns the block without its samples before this number, empty if no sample is left. Also returns the damage that ended
/// decoding, if any: the samples before the damage are in the block. Decodes one sample at a time, because decoded samples
/// take many times the memory of their block.
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
