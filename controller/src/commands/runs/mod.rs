//! Verbs on runs: Puppet code or a command on hosts.

pub(super) mod apply;
pub(super) mod attach;
pub(super) mod cancel;
pub(super) mod list;
pub(super) mod run;
