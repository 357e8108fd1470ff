//! What each process did between two samples, in order, with the breaks in the record and what happened. Pure.
//!
//! The CPU share is that of the interval, not of the process's life as in `ps`: a process that worked all night and
//! is idle now shows 0. 100 % is one CPU.

mod entries;
mod summary;
#[cfg(test)]
mod tests;

pub use self::{
    entries::{Entry, Log, ProcessEntry},
    summary::{SUMMARY_COLUMNS, Summary, Track},
};
