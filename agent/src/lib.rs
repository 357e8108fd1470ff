//! Magpie's on-host agent, a library behind a small `main`.
//!
//! Three processes, each a fault domain that goes on when another dies:
//! - [`serve`]: the only one with a socket; checks who calls, stores bundles, starts runs, serves events and history,
//! - [`run`]: one short-lived supervisor a run, in its own cgroup; owns the Puppet child and writes the spool,
//! - the crate `recorder`: the flight recorder, a program of its own; no network, no tokio.
//!
//! And one verb for who makes images: [`seal`].

pub mod bundles;
pub mod claim;
pub mod cli;
mod durable;
pub mod enrol;
pub mod limits;
pub mod metrics;
pub mod paths;
pub mod run;
pub mod seal;
pub mod serve;
