//! `ctl top`: one moment of a host's record on the screen, now or then. The model: pure, no terminal, no network.
//!
//! - [`Timeline`]: a bounded window of samples, and which of them is looked at,
//! - [`View`], [`rows`]: what is shown of one sample, and in which order,
//! - [`HostRates`]: what the host did between two samples,
//! - [`Mark`]: what is worth jumping to,
//! - [`State`]: all of it together; keys and news go in, [`Action`]s come out.

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
