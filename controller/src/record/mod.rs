//! The flight record: where it is read from, and what it says. Pure but for [`source`].
//!
//! - [`source`]: blocks of a host that answers, of a dead host's disk, or of a copy,
//! - [`query`], [`selection`], [`time`]: what is asked,
//! - [`rates`], [`breaks`], [`marks`], [`names`]: what all answers are made of,
//! - [`log`], [`exits`], [`oom`], [`top`]: the answers, one a verb.

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
