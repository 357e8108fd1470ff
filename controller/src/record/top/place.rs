//! Where a sample is in a record.

use record::{BootId, Sample};

/// Place of a sample in the record, whatever the wall clock said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    boot_id: BootId,
    boottime_ns: u64,
}

impl Place {
    /// Where a sample is.
    pub fn of(sample: &Sample) -> Self {
        Self { boot_id: sample.boot_id, boottime_ns: sample.boottime_ns }
    }

    /// Whether a sample is known to be from before; with another boot that is for the order of the record to say.
    pub fn is_after(&self, sample: &Sample) -> bool {
        self.boot_id == sample.boot_id && self.boottime_ns > sample.boottime_ns
    }

    /// Whether a sample is this one, or known to be from after it.
    pub fn is_not_after(&self, sample: &Sample) -> bool {
        self.boot_id == sample.boot_id && self.boottime_ns <= sample.boottime_ns
    }
}
