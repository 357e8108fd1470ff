//! Hosts that are there already: which can be used again, who has them, and which nobody needs any more.
//!
//! Plans here are pure functions over what the provider lists; a provider's tags may be out of date, and nobody can
//! change them only if they are still what he has read. So the tags only say where to look: whether a host can be had is decided by
//! the host itself, by a claim that it grants to one controller at a time (see [`claim`]).
//!
//! - [`ladder`]: which hosts to try before another is launched,
//! - [`claim`]: taking a host, and giving it back,
//! - [`lease`]: until when,
//! - [`gc`]: what to end.

pub mod claim;
pub mod gc;
pub mod images;
pub mod ladder;
pub mod lease;
