//! The local cloud, shared by all hosts of a state directory: a user and a network namespace, the uplink, and
//! addresses. It starts with the first host and ends with the last.

mod life;
pub(super) mod network;
mod uplink;

pub(super) use self::life::{clear, ensure, hold};
