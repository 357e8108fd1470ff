//! Verbs that read a flight record; they need a fleet only for a host's record.

pub(super) mod cpu_log;
pub(super) mod exits;
pub(super) mod fetch;
pub(super) mod info;
pub(super) mod oom;
#[cfg(test)]
mod tests;
pub(super) mod top;
