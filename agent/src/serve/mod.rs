//! The only part of the agent with a socket.

pub mod bundles;
pub mod history;
pub mod runs;
