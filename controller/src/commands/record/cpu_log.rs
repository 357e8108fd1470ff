//! `ctl cpu-log`: CPU and memory use by process, sample by sample.

use std::{mem, slice};

use ::record::Columns;
use jiff::tz::TimeZone;

use crate::steps::reading::{self, Span};
use crate::{
    cli::{Cli, CpuLog as Args},
    error::Result,
    record::{
        breaks::Break,
        log::{Entry, Log, SUMMARY_COLUMNS, Summary},
        marks::Marks,
        query::Query,
        selection::{Selection, Sort, parse_command},
        source::{Detail, Filter, OpenedAhead, Piece, Source},
    },
    render::{
        self, Format, Output,
        record::log::{self, Form, column::Column},
    },
};

/// How far before the window reading starts, in ms: a rate needs two samples.
const LEAD_MS: i64 = 60_000;
/// Default number of processes per sample.
const TOP: usize = 10;

/// `ctl cpu-log`
pub(in crate::commands) async fn cpu_log(cli: &Cli, args: &Args, output: &Output) -> Result<()> {
    let selection = selection(args)?;
    let source = reading::source(cli, &args.place).await?;
    let span = reading::span(&args.window, "1m", &source).await?;
    let query = Query { selection, ..query(args, span) };
    let zone = TimeZone::system();
    let form = form(args, output.format(), &zone);
    if args.summary {
        return summarize(&source, args, span, query, output).await;
    }
    // Run marks are optional: a record without them is still worth reading.
    let runs = source.runs().await.unwrap_or_default();
    let blocks = blocks(&source, args, span, query.needs().with(form.needs())).await?;
    let busy_only = query.busy_only;
    let selection = query.selection.clone();
    let mut log = Log::new(query, Marks::of(&runs));
    if args.follow {
        log.follow();
    }
    tokio::select! {
        shown = show(blocks, args, &mut log, &form, output) => shown?,
        // The normal end of --follow; there is nothing to clean up.
        _ = tokio::signal::ctrl_c() => return Ok(()),
    }
    if !log.has_matched() {
        return Err(reading::nobody_there(&source, span, &selection, &zone).await);
    }
    let missing = log.missing_pids().iter().map(u32::to_string).collect::<Vec<_>>();
    if !missing.is_empty() {
        output.note(&format!("no sample in that time contains process id {}", missing.join(", ")));
    }
    if busy_only && log.shown() == 0 {
        output.note("all processes were idle in that time; --all shows idle processes too");
    }
    Ok(())
}

/// The query without its selection.
fn query(args: &Args, span: Span) -> Query {
    let top = args.top.unwrap_or(if args.all { 0 } else { TOP });
    let is_selective =
        !args.pid.is_empty() || args.user.is_some() || args.command.is_some() || args.unit.is_some();
    // An idle process may still hold memory.
    let by_work = matches!(args.sort, Sort::Cpu | Sort::Io);
    Query {
        from: span.from,
        until: span.until,
        sort: args.sort,
        top: (top > 0).then_some(top),
        busy_only: by_work && !is_selective && !args.all,
        ..Query::default()
    }
}

fn selection(args: &Args) -> Result<Selection> {
    Ok(Selection {
        pids: args.pid.clone(),
        user: args.user.clone(),
        command: args.command.as_deref().map(parse_command).transpose()?,
        unit: args.unit.clone(),
    })
}

fn form(args: &Args, format: Format, zone: &TimeZone) -> Form {
    let columns = if args.columns.is_empty() { Column::CLASSIC.to_vec() } else { args.columns.clone() };
    match format {
        Format::Text => Form::Text(columns, zone.clone()),
        Format::Json => Form::Json,
        Format::Csv => Form::Csv(columns),
    }
}

async fn blocks(source: &Source, args: &Args, span: Span, columns: Columns) -> Result<OpenedAhead> {
    let from_ms = span.earliest_ms(LEAD_MS);
    let blocks = if args.follow {
        source.follow(from_ms).await?
    } else {
        let filter =
            Filter { pids: args.pid.iter().copied().collect(), ..Filter::between(from_ms, span.latest_ms()) };
        source.read(&filter).await?
    };
    // For `--user`, the users of exited processes are looked up among all processes.
    let pids = if args.user.is_none() { args.pid.clone() } else { Vec::new() };
    Ok(blocks.opened_ahead(Detail { columns, pids }))
}

async fn show(
    mut blocks: OpenedAhead,
    args: &Args,
    log: &mut Log,
    form: &Form,
    output: &Output,
) -> Result<()> {
    let mut lines = Lines::default();
    if matches!(form, Form::Csv(_)) || args.header || output.is_terminal() {
        log::write_header(form, &mut lines.page).map_err(reading::unwritable)?;
    }
    let mut next_sequence = 0;
    while let Some(block) = blocks.next().await? {
        if let Some(header) = &block.header {
            // The host does not send blocks without these processes.
            if !args.pid.is_empty() && header.first_sequence > next_sequence {
                log.skip();
            }
            next_sequence = header.last_sequence() + 1;
        }
        block.each(|piece| match piece {
            Piece::Sample(sample) => lines.write(&log.push(sample), form),
            Piece::Lost(sentence) => lines.lose(sentence, form),
        })?;
        if args.follow || log.has_matched() {
            lines.print(output)?;
        }
    }
    lines.write(&log.finish(), form)?;
    if !args.follow && !log.has_matched() {
        lines.keep_losses(form)?;
    }
    lines.print(output)
}

/// Lines that wait to be printed. If no process matches, which is an error, only losses are printed before it: they may
/// be the reason.
#[derive(Debug, Default)]
struct Lines {
    page: Vec<u8>,
    /// For stderr.
    notes: Vec<String>,
    losses: Vec<Entry<'static>>,
}

impl Lines {
    fn write(&mut self, entries: &[Entry], form: &Form) -> Result<()> {
        for entry in entries {
            log::write(entry, form, &mut self.page).map_err(reading::unwritable)?;
            self.notes.extend(log::aside(entry, form));
        }
        Ok(())
    }

    fn lose(&mut self, sentence: &str, form: &Form) -> Result<()> {
        let loss = Entry::Break(Break::Lost(sentence.to_owned()));
        self.write(slice::from_ref(&loss), form)?;
        self.losses.push(loss);
        Ok(())
    }

    fn keep_losses(&mut self, form: &Form) -> Result<()> {
        self.page.clear();
        self.notes.clear();
        let losses = mem::take(&mut self.losses);
        self.write(&losses, form)
    }

    fn print(&mut self, output: &Output) -> Result<()> {
        self.notes.drain(..).for_each(|note| output.note(&note));
        output.page(&self.page)?;
        self.page.clear();
        self.losses.clear();
        Ok(())
    }
}

/// `--summary`: one line per process.
async fn summarize(source: &Source, args: &Args, span: Span, query: Query, output: &Output) -> Result<()> {
    let zone = TimeZone::system();
    let selection = query.selection.clone();
    let mut blocks = blocks(source, args, span, SUMMARY_COLUMNS).await?;
    let mut summary = Summary::new(query);
    while let Some(block) = blocks.next().await? {
        let mut page = Vec::new();
        block.each(|piece| match piece {
            Piece::Sample(sample) => {
                summary.push(sample);
                Ok(())
            }
            Piece::Lost(sentence) => reading::write_lost(sentence, output, &mut page),
        })?;
        output.page(&page)?;
    }
    if !summary.has_seen() {
        return Err(reading::nobody_there(source, span, &selection, &zone).await);
    }
    let (unseen, left_out) = (summary.unseen_exits(), summary.left_out());
    let tracks = summary.finish();
    if tracks.is_empty() {
        return Err(reading::nobody_there(source, span, &selection, &zone).await);
    }
    render::record::summary::summary(output, &tracks, &zone)?;
    if left_out > 0 {
        output.note(&format!("further processes not listed: {left_out}; --top 0 lists all"));
    }
    if unseen > 0 && args.pid.is_empty() {
        output.note(&format!(
            "not listed: {unseen} that started and exited between two samples; `ctl exits` shows them"
        ));
    }
    Ok(())
}
