//! The only part of the agent with a socket.

pub mod runs;
