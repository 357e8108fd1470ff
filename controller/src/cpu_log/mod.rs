//! What each process did between two samples: rates, order, the breaks in the record, and what happened. Pure.
//!
//! The CPU share is that of the interval, not of the process's life as in `ps`: a process that worked all night and
//! is idle now shows 0. 100 % is one CPU.

mod breaks;
mod inherited;
mod interval;
mod log;
mod marks;
mod selection;
mod summary;
mod time;
mod unit;

pub use self::{
    breaks::{Break, Why},
    interval::{Before, Rates},
    log::{Entry, Log, ProcessEntry, Query},
    marks::{Marks, RunMark},
    selection::{Selection, Sort, parse_command},
    summary::{SUMMARY_COLUMNS, Summary, Track},
    time::{Edge, parse_time},
    unit::unit,
};

use std::sync::Arc;

use jiff::Timestamp;
use record::{Identity, Process, Sample};

/// When a process started, by the wall clock of this sample.
pub fn started(sample: &Sample, identity: Identity) -> Timestamp {
    timestamp_at(sample, identity.started_ns)
}

/// A time since boot as the wall clock of this sample has it.
pub fn timestamp_at(sample: &Sample, boottime_ns: u64) -> Timestamp {
    let ms = |ns: u64| i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX);
    let past = ms(sample.boottime_ns.saturating_sub(boottime_ns));
    let future = ms(boottime_ns.saturating_sub(sample.boottime_ns));
    timestamp(sample.wall_ms.saturating_sub(past).saturating_add(future))
}

/// Milliseconds since the Unix epoch; what no calendar reaches is brought to its end.
pub fn timestamp(unix_ms: i64) -> Timestamp {
    let bounded = unix_ms.clamp(Timestamp::MIN.as_millisecond(), Timestamp::MAX.as_millisecond());
    Timestamp::from_millisecond(bounded).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// How a user is called: by name if the host has one.
pub fn user_name(process: &Process) -> Arc<str> {
    match (&process.user, process.uid) {
        (Some(name), _) => Arc::clone(name),
        (None, Some(uid)) => uid.to_string().into(),
        (None, None) => "?".into(),
    }
}

#[cfg(test)]
mod tests;
