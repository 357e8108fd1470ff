//! What is shown of a flight record, one module for each that [`crate::record`] has.

pub mod exits;
pub mod info;
pub mod log;
pub mod oom;
pub mod summary;
pub mod top;
