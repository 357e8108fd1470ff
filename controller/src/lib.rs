//! Magpie's controller, a library behind a small `main`.
//!
//! [`cli`] is what was typed, [`context`] what it means, [`commands`] one file a verb; they gather from
//! [`provider`] and [`client`] and hand values to [`render`], the only module that writes to stdout.

pub mod bundle;
pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod connect;
pub mod context;
pub mod error;
pub mod fanout;
pub mod holder;
pub mod hosts;
pub mod pauses;
pub mod pki;
pub mod pool;
pub mod provider;
pub mod record;
pub mod render;
mod steps;
