//! Reading and analysing flight records. All modules except [`source`] are pure.
//!
//! - [`source`]: reads blocks from a running host, a dead host's disk, or a copy,
//! - [`query`], [`selection`], [`time`]: parts of a query,
//! - [`rates`], [`breaks`], [`marks`], [`names`]: shared by all reports,
//! - [`log`], [`exits`], [`oom`], [`top`], [`diagnose`]: the reports, one per verb.

pub(crate) mod breaks;
pub(crate) mod diagnose;
pub(crate) mod exits;
mod inherited;
pub(crate) mod log;
pub(crate) mod marks;
pub(crate) mod names;
pub(crate) mod oom;
pub(crate) mod query;
pub(crate) mod rates;
pub(crate) mod selection;
pub(crate) mod source;
pub mod time;
pub(crate) mod top;
