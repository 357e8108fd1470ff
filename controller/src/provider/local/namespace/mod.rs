//! Processes in namespaces of their own: how they talk, which ids and control groups they have, and what is mounted and
//! laid out for them. Nothing here knows what a host is.

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
