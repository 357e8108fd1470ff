//! `ctl oom`: out-of-memory kills with victim, trigger and biggest memory users.

use ::record::{Columns, Contents, Sample, Sources, oom::SETTLE_NS};
use jiff::tz::TimeZone;

use crate::steps::reading;
use crate::{
    cli::{Cli, Oom as Args},
    error::Result,
    record::{
        oom::{Kills, Report},
        query::Query,
        source::{Detail, Filter, Piece},
    },
    render::{self, Output, record::info::Unrecorded},
};

/// `ctl oom`
pub(in crate::commands) async fn oom(cli: &Cli, args: &Args, output: &Output) -> Result<()> {
    let source = reading::source(cli, &args.place).await?;
    let span = reading::span(&args.window, "start", &source).await?;
    let zone = TimeZone::system();
    let filter = Filter {
        contents: Contents::KERNEL.with(Contents::OOM_KILLS),
        ..Filter::between(span.earliest_ms(0), span.latest_ms().saturating_add(reading::LATE_MS))
    };
    let mut kills = Kills::new(Query { from: span.from, until: span.until, ..Query::default() });
    let mut blocks = source.read(&filter).await?.opened_ahead(Detail::of(Columns::ALL));
    let mut found = 0;
    while let Some(block) = blocks.next().await? {
        if let Some(header) = &block.header {
            reading::lead(&source, header, kills.last_ns(), Columns::ALL, |sample| kills.lead(sample))
                .await?;
        }
        let mut reports: Vec<Report> = Vec::new();
        let mut page = Vec::new();
        block.each(|piece| match piece {
            Piece::Sample(sample) => {
                reports.extend(kills.push(sample));
                Ok(())
            }
            Piece::Lost(sentence) => reading::write_lost(sentence, output, &mut page),
        })?;
        output.page(&page)?;
        if let Some(last) = kills.unsettled() {
            // The next block with kills may be hours away.
            let span_ms = (SETTLE_NS / 1_000_000) as i64;
            reading::trail(&source, &last, span_ms, |sample| reports.extend(kills.follow(sample))).await?;
            reports.extend(kills.finish());
        }
        for report in &reports {
            render::record::oom::report(output, report, args.table, &zone)?;
        }
        found += reports.len();
    }
    match found {
        0 => reading::nothing_found(&source, span, "out-of-memory kills are recorded", cannot, output).await,
        _ if output.is_json() => Ok(()),
        _ => {
            output.note(&format!("`ctl diagnose {}` looks for the cause", args.place.as_typed()));
            Ok(())
        }
    }
}

/// Why kills could not be recorded when a sample was taken.
fn cannot(sample: &Sample) -> Option<Unrecorded> {
    let could = sample.sources.has(Sources::KERNEL_LOG) || sample.own_kills().is_some();
    (!could).then_some(Unrecorded {
        what: "out-of-memory kills",
        why: "it has no kernel log and no kill counter of its own (the machine's also counts other kills)",
        hint: "`ctl cpu-log --summary --sort footprint` shows which processes held memory, and until when",
    })
}
