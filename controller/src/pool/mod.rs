//! Existing hosts: which can be reused, who owns them, and which can be cleaned up.
//!
//! Plans here are pure functions of the provider's list of hosts. A provider's tags may be out of date, and there is no
//! atomic way to change them. So the tags only suggest candidates; the host itself decides, with a claim that it grants
//! to one controller at a time (see [`claim`]).
//!
//! - [`ladder`]: which hosts to try before launching a new one,
//! - [`claim`]: claiming and settling a host,
//! - [`lease`]: how long a host is kept,
//! - [`gc`]: what to clean up.

pub(crate) mod claim;
pub(crate) mod gc;
pub(crate) mod images;
pub(crate) mod ladder;
pub(crate) mod lease;
