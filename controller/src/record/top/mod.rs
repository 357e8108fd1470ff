//! The model of `ctl top`: one moment of a host's record, live or in the past. Pure: no terminal, no network.
//!
//! - [`Timeline`]: a bounded window of samples and a cursor,
//! - [`View`], [`rows`]: the processes of one sample, filtered and sorted,
//! - [`HostRates`]: the host's activity between two samples,
//! - [`Mark`]: events worth jumping to,
//! - [`State`]: the whole state; keys, samples and answers go in, [`Action`]s come out.

mod host;
mod keys;
mod marks;
mod place;
mod request;
mod rows;
mod state;
#[cfg(test)]
pub(crate) mod tests;
mod timeline;
mod view;

pub(crate) use host::{CpuShares, HostRates, Pressure, Swap, Tasks};
pub(crate) use marks::{Mark, MarkKind};
pub(crate) use request::{Answer, Purpose, Request, Search};
pub(crate) use rows::Row;
pub(crate) use state::{Action, Link, Popup, State};
pub(crate) use timeline::Timeline;
pub(crate) use view::View;
