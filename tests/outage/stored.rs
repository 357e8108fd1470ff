//! A record on disk, read as the next recorder and its readers do.

use std::path::Path;

use record::directory::{Filter, Policy, Reader, Writer};
use record::{Block, BootId, Sample};

/// Configured time between samples. It may be longer while memory is short.
pub(crate) const INTERVAL_NS: u64 = 1_000_000_000;

/// Maximum gap between two samples during an outage.
pub(crate) const LONGEST_GAP_NS: u64 = 3_000_000_000;

/// Opens the record as a recorder of a later boot, which repairs it, and reads all of it. Fails if a complete sample was
/// lost.
#[track_caller]
pub(crate) fn open(history: &Path) -> Vec<Sample> {
    let now_ms = newest_ms(history);
    let (writer, lost) =
        Writer::open(history, BootId([0xff; 16]), now_ms, Policy::default()).expect("the record opens");
    // An incomplete frame was never a sample.
    assert!(lost.iter().all(|sentence| sentence.contains("cut short")), "{lost:?}");
    drop(writer);
    samples(history)
}

/// All samples, oldest first, while a recorder may be writing.
#[track_caller]
pub(crate) fn samples(history: &Path) -> Vec<Sample> {
    let mut samples = Vec::new();
    for block in Reader::new(history).blocks(Filter::default()).expect("the record can be read") {
        assert_eq!(block.lost, Vec::<String>::new());
        let parsed = Block::parse(&block.data).expect("a block");
        samples.extend(parsed.samples().expect("samples").map(|sample| sample.expect("a sample")));
    }
    samples
}

/// Current time for the record: no sample is too old to keep.
fn newest_ms(history: &Path) -> i64 {
    let status = record::directory::status(history).expect("the record can be looked at");
    status.newest.map_or(0, |sample| sample.wall_ms)
}

/// The longest time between two consecutive samples, measured by `between`.
pub(crate) fn longest_gap(samples: &[Sample], between: impl Fn(u64, u64) -> u64) -> u64 {
    let gaps = samples.windows(2).map(|pair| between(pair[0].boottime_ns, pair[1].boottime_ns));
    gaps.max().unwrap_or(0)
}

/// Nanoseconds as seconds, for people.
pub(crate) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
