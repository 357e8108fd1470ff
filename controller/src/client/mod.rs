//! Talking to agents: authentication, enrolment, RPCs, and error messages.
//!
//! The client gets a byte stream from a provider and does not know how it was opened.

pub mod claims;
mod connect;
mod enrol;
mod handshake;
pub mod history;
mod renewal;
pub mod runs;
pub mod status;

pub use self::{
    connect::{MAX_MESSAGE, connect},
    enrol::{Outcome, enrol, enrol_at},
};
