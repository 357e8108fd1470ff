//! Processes in their own namespaces: their communication, ids, control groups, mounts and devices. Nothing here knows
//! about hosts.

pub(super) mod cgroup;
mod cgroup_tree;
pub(super) mod channel;
pub(super) mod devices;
pub(super) mod freezer;
pub(super) mod mounts;
pub(super) mod sandbox;
pub(super) mod step;
pub(super) mod tool;
pub(super) mod tree;
pub(super) mod userns;
