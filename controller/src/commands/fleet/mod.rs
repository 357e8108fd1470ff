//! Commands for the fleet itself: CA directory, users, bundle, cleaning up.

pub(super) mod bundle;
pub(super) mod gc;
pub(super) mod init;
pub(super) mod manual;
pub(super) mod user;
