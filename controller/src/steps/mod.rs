//! Steps that several commands share, one file each.

pub(crate) mod certificates;
pub(crate) mod conclude;
pub(crate) mod consent;
pub(crate) mod follow;
pub(crate) mod job;
pub(crate) mod lease;
pub(crate) mod obtain;
pub(crate) mod parse;
pub(crate) mod reading;
pub(crate) mod started;
pub(crate) mod stdin;
