//! Output of flight records: one module for each module of [`crate::record`].

pub(crate) mod diagnose;
pub(crate) mod exits;
pub(crate) mod info;
pub(crate) mod log;
pub(crate) mod oom;
pub(crate) mod summary;
pub(crate) mod top;
