//! Commands for runs: applying Puppet code or running a command on hosts.

pub(super) mod apply;
pub(super) mod attach;
pub(super) mod cancel;
pub(super) mod list;
pub(super) mod run;
