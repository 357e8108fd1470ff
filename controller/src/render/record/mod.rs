//! Output of flight records: one module for each module of [`crate::record`].

pub mod exits;
pub mod info;
pub mod log;
pub mod oom;
pub mod summary;
pub mod top;
