//! Commands that read a flight record. Reading from a directory needs no fleet.

pub(super) mod cpu_log;
pub(super) mod diagnose;
pub(super) mod exits;
pub(super) mod fetch;
pub(super) mod info;
pub(super) mod oom;
#[cfg(test)]
mod tests;
pub(super) mod top;
