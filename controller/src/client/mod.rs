//! Speaking with agents: proving both ends, enrolling, and turning failures into sentences.
//!
//! The client gets a byte stream from a provider and knows nothing of how it was made.

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
