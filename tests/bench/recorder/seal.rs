//! Size of a sample on disk after its block is sealed.
//!
//! Until then, the newest samples are in a tail of preallocated size. A block contains hundreds of samples, so a run of a few
//! seconds does not seal one. The size is predicted from the recorded samples: the recorder's own code seals all of them, and
//! the first half. The difference is the size of additional samples; the rest is that of the first sample, once per block.

use std::{path::Path, time::Duration};

use agent::paths::Paths;
use nix::time::{ClockId, clock_gettime};
use record::directory::{Filter, Policy, Reader};
use record::{Block, Builder, Encoder, Limits, Packer, Sample};

use crate::Result;

/// A sample's share of its block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// Size in bytes.
    pub(crate) bytes: f64,
    /// CPU time for compression, ms.
    pub(crate) cpu_ms: f64,
}

/// Predicts the share from the record of the agent below `root`.
pub(crate) fn share(root: &Path) -> Result<Share> {
    foretell(&recorded(&Paths::new(root).history())?, Policy::default().block)
}

fn foretell(samples: &[Sample], limits: Limits) -> Result<Share> {
    if samples.len() < 4 {
        return Err(format!("only {} samples were recorded", samples.len()).into());
    }
    let (first, half, all) =
        (sealed(&samples[..1])?, sealed(&samples[..samples.len() / 2])?, sealed(samples)?);
    let more = all.samples - half.samples;
    let (bytes, raw) = ((all.bytes - half.bytes) / more, (all.raw_bytes - half.raw_bytes) / more);
    let room = (limits.bytes as f64).max(2.0 * first.raw_bytes) - first.raw_bytes;
    let records = f64::from(limits.records).min(1.0 + room / raw.max(1.0));
    let key = all.bytes - bytes * all.samples;
    let full_raw = first.raw_bytes + raw * (records - 1.0);
    Ok(Share { bytes: bytes + key / records, cpu_ms: all.ms * full_raw / all.raw_bytes / records })
}

/// All samples of a record.
fn recorded(history: &Path) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for stored in Reader::new(history).blocks(Filter::default())? {
        let data = stored.data;
        if !data.is_empty() {
            samples.extend(Block::parse(&data)?.samples()?.collect::<std::result::Result<Vec<_>, _>>()?);
        }
    }
    Ok(samples)
}

/// Seals a block of these samples.
struct Sealed {
    samples: f64,
    bytes: f64,
    raw_bytes: f64,
    ms: f64,
}

fn sealed(samples: &[Sample]) -> Result<Sealed> {
    let mut builder = Builder::new(samples[0].boot_id, 1);
    let mut encoder = Encoder::new(Limits { records: u32::MAX, bytes: usize::MAX });
    let mut record = Vec::new();
    for sample in samples {
        record.clear();
        encoder.encode(sample, &mut record);
        builder.push(&record)?;
    }
    let (mut packer, mut block) = (Packer::new()?, Vec::new());
    // CPU time, not elapsed time: other processes may run meanwhile.
    let clock = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let begun = clock()?;
    builder.seal(&mut packer, &mut block)?;
    Ok(Sealed {
        samples: samples.len() as f64,
        bytes: block.len() as f64,
        raw_bytes: builder.raw_bytes() as f64,
        ms: (clock()? - begun).as_secs_f64() * 1e3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::day::Day;

    #[test]
    fn a_run_of_seconds_tells_what_a_full_block_takes() {
        let mut day = Day::new();
        let samples: Vec<Sample> = (0..300).map(|_| day.next().clone()).collect();
        let foretold = foretell(&samples[..16], Limits { records: 300, bytes: usize::MAX }).unwrap();
        let taken = sealed(&samples).unwrap().bytes / 300.0;
        assert!((0.7..1.3).contains(&(foretold.bytes / taken)), "{foretold:?}, but {taken}");
    }
}
