//! Images of local hosts: a base from the machine's own apt sources, with the agent's layer on top. Unused images are
//! removed.

mod agent;
pub(super) mod bake;
mod base;
pub(super) mod images;
pub(super) mod layers;
mod prune;
mod sources;
