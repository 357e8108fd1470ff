//! The contract: every byte that Magpie's agent and controller must agree on.
//!
//! - [`pb`]: what is said (generated from `magpie/v1/*.proto`, committed, proven by a test),
//! - [`bundle`]: what is shipped,
//! - [`identity`]: who may speak,
//! - [`glance`]: what is said of a record as a whole; the record itself is the crate `record`.
//!
//! There is no runtime, no clap and no cloud in here: a contract has no opinions.

pub mod bundle;
pub mod glance;
pub mod identity;

/// Messages and services of `magpie.v1`, generated. Regenerate with `make gen`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::too_many_lines)]
pub mod pb {
    include!("gen/magpie.v1.rs");
}

/// The port of every agent: below 1024, so that no unprivileged process can sit on it first.
pub const PORT: u16 = 717;

/// The most that a command can be given to read on its standard input, in bytes: it travels with the request.
pub const MAX_STDIN_BYTES: usize = 4 << 20;
