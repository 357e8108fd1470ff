//! The process log: what each process did between two samples, with breaks and events, in order. Pure.
//!
//! The CPU share covers the interval, not the process's life as in `ps`: a process that was busy all night and is idle
//! now shows 0. 100 % is one CPU.

mod entries;
mod summary;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    entries::{Entry, Log, ProcessEntry},
    summary::{SUMMARY_COLUMNS, Summary, Track},
};
