//! Magpie's controller, a library behind a small `main`.
//!
//! [`cli`] parses the command line, [`context`] loads what it refers to, [`commands`] has one file per command.
//! Commands use [`provider`] and [`client`] and pass values to [`render`], the only module that writes to stdout.

pub mod bundle;
pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub(crate) mod connect;
pub(crate) mod context;
pub mod error;
pub(crate) mod fanout;
pub(crate) mod holder;
pub(crate) mod hosts;
pub(crate) mod pauses;
pub mod pki;
pub(crate) mod pool;
pub mod provider;
pub mod record;
pub mod render;
mod steps;
