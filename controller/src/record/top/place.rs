//! Position of a sample in a record.

use record::{BootId, Sample};

/// Position of a sample in the record, independent of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    boot_id: BootId,
    boottime_ns: u64,
}

impl Place {
    /// Position of this sample.
    pub(crate) fn of(sample: &Sample) -> Self {
        Self { boot_id: sample.boot_id, boottime_ns: sample.boottime_ns }
    }

    /// Whether `sample` is known to be earlier; false for another boot, where only the order of the record tells.
    pub(crate) fn is_after(&self, sample: &Sample) -> bool {
        self.boot_id == sample.boot_id && self.boottime_ns > sample.boottime_ns
    }

    /// Whether `sample` is at this position or known to be later.
    pub(crate) fn is_not_after(&self, sample: &Sample) -> bool {
        self.boot_id == sample.boot_id && self.boottime_ns <= sample.boottime_ns
    }
}
