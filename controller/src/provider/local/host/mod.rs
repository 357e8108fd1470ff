//! One host's life: launched, booted by a supervisor of its own, dialled, copied, stopped and destroyed. What a host
//! is made of is in `image` and `namespace`; here is what happens to it, in which order.

mod console;
pub(super) mod copy;
pub(super) mod dial;
mod ending;
pub(super) mod init;
pub(super) mod keep;
mod lifecycle;
mod listing;
mod seeds;
pub(super) mod supervise;
