//! One host's life: launched, booted by a supervisor of its own, dialled, copied, stopped and destroyed. What a host
//! is made of is in `image` and `namespace`; here is what happens to it, in which order.

pub(super) mod copy;
pub(super) mod dial;
pub(super) mod init;
mod lifecycle;
mod seeds;
pub(super) mod supervise;
