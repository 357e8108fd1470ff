//! `ctl exits`: process exits, with time and cause.

use ::record::{Contents, Sample, Sources};
use jiff::tz::TimeZone;

use crate::steps::reading;
use crate::{
    cli::{Cli, Exits as Args},
    error::Result,
    record::{
        exits::{COLUMNS, Ended, Exits},
        query::Query,
        selection::{Selection, parse_command},
        source::{Detail, Filter, Piece},
    },
    render::{Format, Output, record::exits, record::info::Unrecorded},
};

/// `ctl exits`
pub(in crate::commands) async fn exits(cli: &Cli, args: &Args, output: &Output) -> Result<()> {
    let command = args.command.as_deref().map(parse_command).transpose()?;
    let source = reading::source(cli, &args.place).await?;
    let span = reading::span(&args.window, "1h", &source).await?;
    let selection = Selection { command, ..Selection::default() };
    let query = Query { from: span.from, until: span.until, selection, ..Query::default() };
    let zone = TimeZone::system();

    let until_ms = span.latest_ms().saturating_add(reading::LATE_MS);
    let filter = Filter { contents: Contents::EXITS, ..Filter::between(span.earliest_ms(0), until_ms) };
    let mut ends = Exits::new(query, args.failed);
    let mut blocks = source.read(&filter).await?.opened_ahead(Detail::of(COLUMNS));
    let mut page = Vec::new();
    if output.format() == Format::Csv || args.header || output.is_terminal() {
        exits::write_header(output.format(), &mut page).map_err(reading::unwritable)?;
    }
    while let Some(block) = blocks.next().await? {
        if let Some(header) = &block.header {
            reading::lead(&source, header, ends.last_ns(), COLUMNS, |sample| ends.lead(sample)).await?;
        }
        block.each(|piece| match piece {
            Piece::Sample(sample) => write(&ends.push(sample), output, &zone, &mut page),
            Piece::Lost(sentence) => reading::write_lost(sentence, output, &mut page),
        })?;
        output.page(&page)?;
        page.clear();
    }
    output.page(&page)?;
    if ends.has_gaps() {
        output.note("the host could not record process exits for part of that time");
    }
    match ends.shown() {
        0 if ends.has_seen() => output.note("no process exit in that time matches"),
        0 => {
            return reading::nothing_found(&source, span, "process exits are recorded", cannot, output).await;
        }
        _ => {}
    }
    Ok(())
}

/// Why exits could not be recorded when a sample was taken.
fn cannot(sample: &Sample) -> Option<Unrecorded> {
    (!sample.sources.has(Sources::EXITS)).then_some(Unrecorded {
        what: "process exits",
        why: "the kernel reports them (taskstats) only with CAP_NET_ADMIN on the whole machine, not in a container",
        hint: "`ctl cpu-log --summary --all` shows when each process was last seen",
    })
}

fn write(ends: &[Ended], output: &Output, zone: &TimeZone, page: &mut Vec<u8>) -> Result<()> {
    for ended in ends {
        exits::write(ended, output.format(), zone, page).map_err(reading::unwritable)?;
        if let Some(sentence) = exits::aside(ended, output.format()) {
            output.note(&sentence);
        }
    }
    Ok(())
}
