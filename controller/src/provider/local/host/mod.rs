//! The life of one host: launch, boot under its own supervisor, dial, copy, stop and destroy. The parts of a host are
//! in `image` and `namespace`.

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
