//! Samples that are decoded are what they would be encoded from, and no larger than their bytes justify.
#![no_main]

use std::sync::LazyLock;

use fuzz::{foreign, samples};
use libfuzzer_sys::fuzz_target;
use proto::history::{BootId, Decoder, Encoder, Sample};

fn encode(samples: &[Sample]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut bytes = Vec::new();
    samples.iter().for_each(|sample| encoder.encode(sample, &mut bytes));
    bytes
}

fn decode(mut bytes: &[u8]) -> Vec<Sample> {
    let mut decoder = Decoder::new(BootId::default());
    let mut samples = Vec::new();
    while !bytes.is_empty() {
        let before = bytes;
        let Ok(sample) = decoder.decode(&mut bytes) else {
            assert_eq!(bytes, before, "damage is not skipped");
            break;
        };
        samples.push(sample.clone());
        assert!(bytes.len() < before.len());
    }
    samples
}

static EXAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| vec![encode(&samples())]);

fuzz_target!(|data: &[u8]| {
    let bytes = foreign(&EXAMPLES, data);
    let samples = decode(&bytes);
    for sample in &samples {
        assert!(sample.processes.is_sorted_by(|a, b| a.identity < b.identity));
        assert!(sample.processes.len() <= bytes.len() / 2);
    }
    assert_eq!(decode(&encode(&samples)), samples);
});
