//! Magpie's controller, a library behind a small `main`.
//!
//! [`cli`] is what was typed, [`context`] what it means, [`commands`] one file a verb; they gather from
//! [`provider`] and [`client`] and hand values to [`render`], the only module that writes to stdout.

pub mod bundle;
pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod context;
pub mod cpu_log;
pub mod error;
pub mod exits;
pub mod fanout;
pub mod oom;
pub mod pki;
pub mod pool;
pub mod provider;
pub mod recording;
pub mod render;
pub mod top;
