//! `ctl record info`: what a record contains, and the cost of recording.

use jiff::tz::TimeZone;

use crate::steps::reading;
use crate::{
    cli::{Cli, Place},
    error::Result,
    render::{Output, record::info as render},
};

/// `ctl record info`
pub(in crate::commands) async fn info(cli: &Cli, place: &Place, output: &Output) -> Result<()> {
    let source = reading::source(cli, place).await?;
    let zone = TimeZone::system();
    let info = source.info().await?;
    if info.samples == 0 {
        return Err(reading::nothing_there(&source, &zone).await);
    }
    render::info(output, &source.name(), &info, &zone)
}
