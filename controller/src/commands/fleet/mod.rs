//! Verbs on the fleet itself: its directory, its users, what would be pushed, what nobody needs any more.

pub(super) mod bundle;
pub(super) mod gc;
pub(super) mod init;
pub(super) mod manual;
pub(super) mod user;
