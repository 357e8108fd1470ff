//! The contract between Magpie's agent and controller: every byte on which they must agree.
//!
//! - [`pb`]: messages and services (generated from `magpie/v1/*.proto`, committed, checked by a test),
//! - [`bundle`]: bundles of Puppet code,
//! - [`identity`]: roles, certificates, enrolment,
//! - [`run`]: names of run states, which of them are ends, and what a run was started for,
//! - [`units`]: sizes and counts as text,
//! - [`glance`]: messages about a whole record; the record itself is the crate `record`.
//!
//! No runtime, no command line and no cloud in this crate: both sides are free to choose theirs.

pub mod bundle;
pub mod glance;
pub mod identity;
mod lower_hex;
pub mod run;
pub mod units;

/// Messages and services of `magpie.v1`, generated. Regenerate with `make gen`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::too_many_lines)]
pub mod pb {
    include!("gen/magpie.v1.rs");
}

/// The port of every agent: below 1024, so that no unprivileged process can bind it first.
pub const PORT: u16 = 717;

/// Maximum size of a command's standard input, in bytes: it is sent with the request.
pub const MAX_STDIN_BYTES: usize = 4 << 20;
