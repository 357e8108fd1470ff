//! Placeholder.

pub mod cpu_log;
