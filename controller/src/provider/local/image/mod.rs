//! What hosts boot from. A base is made from the machine's own apt sources, the agent's layer goes on top, and what no
//! host needs any more is removed.

mod agent;
pub(super) mod bake;
mod base;
pub(super) mod images;
pub(super) mod layers;
mod prune;
mod sources;
