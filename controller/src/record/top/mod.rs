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

pub use host::{CpuShares, HostRates, Pressure, Swap, Tasks};
pub use marks::{Mark, MarkKind};
pub use place::Place;
pub use request::{Answer, Purpose, Request, Search};
pub use rows::{Row, rows};
pub use state::{Action, Link, Popup, State};
pub use timeline::Timeline;
pub use view::View;
