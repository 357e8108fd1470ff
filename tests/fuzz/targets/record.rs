//! Samples that are decoded are what they would be encoded from, and no larger than their bytes justify.
#![no_main]

use std::sync::LazyLock;

use fuzz::{foreign, pieces, samples};
use libfuzzer_sys::fuzz_target;
use record::{BootId, Decoder, Encoder, Limits, Sample};

/// Records, each behind its length as a u16.
fn encode(samples: &[Sample]) -> Vec<u8> {
    let mut encoder = Encoder::new(Limits { records: u32::MAX, bytes: usize::MAX });
    let mut bytes = Vec::new();
    for sample in samples {
        let mut record = Vec::new();
        encoder.encode(sample, &mut record);
        bytes.extend((record.len() as u16).to_le_bytes());
        bytes.extend(record);
    }
    bytes
}

fn decode(records: &[&[u8]]) -> Vec<Sample> {
    let mut decoder = Decoder::new(BootId::default(), record::VERSION);
    records.iter().map_while(|record| decoder.decode(record).ok().cloned()).collect()
}

static EXAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| vec![encode(&samples())]);

fuzz_target!(|data: &[u8]| {
    let bytes = foreign(&EXAMPLES, data);
    let samples = decode(&pieces(&bytes));
    for sample in &samples {
        assert!(sample.processes.is_sorted_by(|a, b| a.identity < b.identity));
        assert!(sample.processes.len() <= bytes.len() / 2);
    }
    let again = encode(&samples);
    // What is longer than a piece can say is left alone.
    if pieces(&again).iter().map(|piece| piece.len() + 2).sum::<usize>() == again.len() {
        assert_eq!(decode(&pieces(&again)), samples);
    }
});
