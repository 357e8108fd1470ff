//! What all hosts of a state directory share: a user and a network namespace, their uplink, and the addresses in them.
//! It begins with the first host and ends with the last.

mod life;
pub(super) mod network;
mod uplink;

pub(super) use self::life::{clear, ensure, hold};
