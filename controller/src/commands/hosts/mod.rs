//! Commands that create, use, stop and delete hosts.

pub(super) mod adopt;
pub(super) mod clone;
pub(super) mod destroy;
pub(super) mod list;
pub(super) mod provision;
pub(super) mod release;
pub(super) mod start;
pub(super) mod status;
pub(super) mod stop;

use crate::{error::Result, fanout, provider::Host, render::Output};

/// Reports what was done on each host, and combines the failures into one error.
pub(super) fn said(results: Vec<(Host, Result<&'static str>)>, output: &Output) -> Result<()> {
    let (all_done, failures) = fanout::split(results);
    for (host, done) in all_done {
        output.note(&format!("{host} {done}"));
    }
    fanout::sum(failures)
}
