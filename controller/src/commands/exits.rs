//! `ctl exits`: who ended, when and how.

use ::record::{Contents, Header, Sample, Sources};
use jiff::tz::TimeZone;

use super::record;
use crate::{
    cli::{Cli, Exits as Args, Format},
    error::Result,
    record::{
        exits::{COLUMNS, Ended, Exits},
        query::Query,
        selection::{Selection, parse_command},
        source::{Detail, Filter, Opened, Piece},
    },
    render::{Output, record::exits, record::info::Unrecorded},
};

/// `ctl exits`
pub(super) async fn exits(cli: &Cli, args: &Args, output: &Output) -> Result<()> {
    let command = args.command.as_deref().map(parse_command).transpose()?;
    let source = record::source(cli, &args.place).await?;
    let span = record::span(&args.window, "1h", &source).await?;
    let selection = Selection { command, ..Selection::default() };
    let query = Query { from: span.from, until: span.until, selection, ..Query::default() };
    let zone = TimeZone::system();

    let filter = Filter {
        from_ms: span.earliest_ms(0),
        until_ms: span.latest_ms(),
        contents: Contents::EXITS,
        ..Filter::default()
    };
    let mut ends = Exits::new(query, args.failed);
    let mut blocks = source.read(&filter).await?;
    let mut page = Vec::new();
    if output.format() == Format::Csv || args.header || output.is_terminal() {
        exits::write_header(output.format(), &mut page).map_err(record::unwritable)?;
    }
    while let Some(block) = blocks.next().await? {
        if let Ok(header) = Header::parse(&block.data) {
            record::lead(&source, &header, ends.last_ns(), COLUMNS, |sample| ends.lead(sample)).await?;
        }
        Opened::new(block, &Detail::of(COLUMNS)).each(|piece| match piece {
            Piece::Sample(sample) => write(&ends.push(sample), output, &zone, &mut page),
            Piece::Lost(sentence) => record::write_lost(sentence, output, &mut page),
        })?;
        output.page(&page)?;
        page.clear();
    }
    output.page(&page)?;
    if ends.has_gaps() {
        output.note("for a part of that time the host could not record process exits");
    }
    match ends.shown() {
        0 if ends.has_seen() => output.note("no process exit in that time fits"),
        0 => {
            return record::nothing_found(&source, span, "process exits are recorded", cannot, output).await;
        }
        _ => {}
    }
    Ok(())
}

/// Why exits could not be recorded when a sample was taken.
fn cannot(sample: &Sample) -> Option<Unrecorded> {
    (!sample.sources.has(Sources::EXITS)).then_some(Unrecorded {
        what: "process exits",
        why: "the kernel reports them (taskstats) only to the whole machine with CAP_NET_ADMIN, not to a container",
        hint: "`ctl cpu-log --summary --all` shows when each process was last seen",
    })
}

fn write(ends: &[Ended], output: &Output, zone: &TimeZone, page: &mut Vec<u8>) -> Result<()> {
    for ended in ends {
        exits::write(ended, output.format(), zone, page).map_err(record::unwritable)?;
        if let Some(sentence) = exits::aside(ended, output.format()) {
            output.note(&sentence);
        }
    }
    Ok(())
}
