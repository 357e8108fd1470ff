//! The record format: single samples, blocks of samples, and the write-ahead tail.

mod block;
mod builder;
mod column;
mod damage;
mod decoder;
mod encoder;
mod entry;
mod focus;
mod gaps;
mod groups;
mod header;
pub mod tail;
#[cfg(test)]
mod tests;
mod varint;

pub use block::{Block, Samples, index};
pub use builder::{Builder, GAP_INTERVALS, Packer, encode};
pub use column::Columns;
pub use damage::Damage;
pub use decoder::Decoder;
pub use encoder::{Encoder, Limits};
pub use entry::{Contents, Prefix};
pub use gaps::{Gap, gaps};
pub use header::{HEADER_BYTES, Header, MAGIC, MAX_BODY_BYTES, VERSION};
