//! Breaks in a record: gaps, restarts, clock steps, unreadable samples.

use jiff::Timestamp;
use record::{GAP_INTERVALS, Sample};

use super::{rates::Before, time::timestamp};

/// A smaller difference between the clocks is drift or the time between two readings, not a step.
const STEP_MS: i64 = 1_000;

/// A break in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// No samples were stored for a while.
    Gap {
        /// The last sample before.
        from: Timestamp,
        /// The first sample after.
        until: Timestamp,
        /// Length by the boot clock, which does not step, ms.
        length_ms: u64,
        /// Cause, if known.
        why: Option<Why>,
    },
    /// The host restarted.
    Restart {
        /// The last sample before.
        from: Timestamp,
        /// The first sample after.
        until: Timestamp,
    },
    /// The wall clock was set.
    Step {
        /// The last sample before.
        from: Timestamp,
        /// The first sample after.
        until: Timestamp,
        /// Size of the step, ms; negative is backwards.
        by_ms: i64,
    },
    /// Stored samples cannot be read, and why.
    Lost(String),
}

/// Why samples are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The recorder restarted.
    Recorder,
    /// This many samples were taken but could not be stored.
    Dropped(u64),
    /// The recorder was not scheduled in time: the sample started this many ms late.
    Late(u64),
}

/// The breaks between two samples.
pub(super) fn between(before: &Before, sample: &Sample) -> Vec<Break> {
    let (from, until) = (timestamp(before.wall_ms), timestamp(sample.wall_ms));
    if before.boot_id != sample.boot_id {
        return vec![Break::Restart { from, until }];
    }
    let mut breaks = Vec::new();
    let length_ms = sample.boottime_ns.saturating_sub(before.boottime_ns) / 1_000_000;
    let interval_ms = before.interval_ms.max(sample.interval_ms);
    if length_ms as f64 > GAP_INTERVALS * f64::from(interval_ms) {
        breaks.push(Break::Gap { from, until, length_ms, why: why(before, sample, interval_ms) });
    }
    let passed_ms = sample.wall_ms.saturating_sub(before.wall_ms);
    let by_ms = passed_ms.saturating_sub_unsigned(length_ms);
    if by_ms.saturating_abs() >= STEP_MS {
        breaks.push(Break::Step { from, until, by_ms });
    }
    breaks
}

fn why(before: &Before, sample: &Sample, interval_ms: u32) -> Option<Why> {
    if sample.own_start_ns != before.own_start_ns {
        return Some(Why::Recorder);
    }
    let dropped = sample.dropped.saturating_sub(before.dropped);
    if dropped > 0 {
        return Some(Why::Dropped(dropped));
    }
    let late_ms = sample.late_ns / 1_000_000;
    (late_ms > u64::from(interval_ms) / 2).then_some(Why::Late(late_ms))
}
