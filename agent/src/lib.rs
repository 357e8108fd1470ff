//! Magpie's agent, which runs on each host: a library behind a small `main`.
//!
//! Three processes; each keeps running when another one dies:
//! - [`serve`]: the only process with a socket. It authorises calls, stores bundles, starts runs, serves events and
//!   history.
//! - [`run`]: one short-lived supervisor for each run, in its own cgroup. It owns the Puppet child and writes the
//!   spool.
//! - the crate `recorder`: the flight recorder, a separate program without network or tokio.
//!
//! One more command, for building images: [`seal`].

pub(crate) mod bundles;
pub(crate) mod claim;
pub mod cli;
mod durable;
pub mod enrol;
pub mod limits;
pub(crate) mod metrics;
pub mod paths;
pub mod run;
pub mod seal;
pub mod serve;
