//! `ctl record fetch`: copies a record, or part of it, to this machine.

use jiff::tz::TimeZone;

use crate::steps::reading;
use crate::{
    cli::{Cli, Place, RecordFetch as Args},
    error::{Error, Result},
    record::source::{Copy, Filter, Source},
    render::{Output, record::info as render},
};

/// `ctl record fetch`
pub(in crate::commands) async fn fetch(cli: &Cli, args: &Args, output: &Output) -> Result<()> {
    let place = Place { host: Some(args.host.clone()), from_dir: None };
    let source = reading::source(cli, &place).await?;
    let Source::Host { name, .. } = &source else {
        return Err(Error::invalid("only a host's record can be fetched"));
    };
    let span = reading::span(&args.window, "start", &source).await?;
    let mut copy = Copy::new(&args.to, name)?;
    let filter = Filter::between(span.earliest_ms(0), span.latest_ms());
    let mut blocks = source.read(&filter).await?;
    while let Some(block) = blocks.next().await? {
        block.lost.iter().for_each(|sentence| output.note(sentence));
        if let Some(sentence) = copy.add(&block)? {
            output.note(&sentence);
        }
    }
    let mut runs = source.runs().await?;
    let overlaps =
        |from: i64, until: i64| from <= span.latest_ms() && (until == 0 || until >= span.earliest_ms(0));
    runs.retain(|run| overlaps(run.started_unix_ms, run.finished_unix_ms));
    let count = runs.len();
    let fetched = copy.finish(runs)?;
    if fetched.samples == 0 && fetched.present == 0 {
        return Err(reading::nothing_there(&source, &TimeZone::system()).await);
    }
    render::fetched(output, &args.to, name, &fetched, count)
}
