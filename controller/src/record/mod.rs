//! Reading and analysing flight records. All modules except [`source`] are pure.
//!
//! - [`source`]: reads blocks from a running host, a dead host's disk, or a copy,
//! - [`query`], [`selection`], [`time`]: parts of a query,
//! - [`rates`], [`breaks`], [`marks`], [`names`]: shared by all reports,
//! - [`log`], [`exits`], [`oom`], [`top`]: the reports, one per verb.

pub mod breaks;
pub mod exits;
mod inherited;
pub mod log;
pub mod marks;
pub mod names;
pub mod oom;
pub mod query;
pub mod rates;
pub mod selection;
pub mod source;
pub mod time;
pub mod top;
