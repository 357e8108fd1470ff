//! Shared by all commands that read a record: the source, the time window, and messages when nothing is found.

use std::{io, slice};

use jiff::{Timestamp, Zoned, tz::TimeZone};
use proto::pb::InfoReply;
use record::{Columns, Header, Sample};

use crate::{
    cli::{Cli, Place, Window},
    context::Context,
    error::{Error, Result},
    record::{
        breaks::Break,
        log::Entry,
        selection::Selection,
        source::{Detail, Filter, Piece, Source},
        time::{Edge, parse_end, parse_time, timestamp},
    },
    render::{
        self, Format, Output,
        record::info::Unrecorded,
        record::log::{self, Form},
    },
};

/// Opens the record of a host or directory. Only a host needs a fleet.
pub(crate) async fn source(cli: &Cli, place: &Place) -> Result<Source> {
    if let Some(directory) = &place.from_dir {
        return Source::directory(directory);
    }
    let Some(host) = &place.host else {
        return Err(Error::invalid("name a host, or a directory with --from-dir"));
    };
    let context = Context::load(cli.asked())?;
    let hosts = context.running(slice::from_ref(host), None).await?;
    let channel = context.connect(&hosts[0]).await?.channel;
    Ok(Source::host(channel, &hosts[0].name))
}

/// A time window; a missing bound means the start or end of the record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
}

/// Parses the window; relative times count by the clock of the host.
pub(crate) async fn span(window: &Window, otherwise: &str, source: &Source) -> Result<Span> {
    Span::parse(window, otherwise, &now(source).await?)
}

/// The current time of the record's host; for a directory, the time of the newest sample.
async fn now(source: &Source) -> Result<Zoned> {
    let now = match source {
        Source::Host { .. } => host_time(&source.info().await?, Timestamp::now()),
        Source::Directory(directory) => {
            directory.range()?.map_or_else(Timestamp::now, |(_, newest)| timestamp(newest))
        }
    };
    Ok(now.to_zoned(TimeZone::system()))
}

/// The current time on a host, from the newest sample of its recorder, because its clock may differ from ours. Falls
/// back to our clock if the recorder is not running.
pub(crate) fn host_time(info: &InfoReply, ours: Timestamp) -> Timestamp {
    let recorder = info.recorder.as_ref().filter(|recorder| recorder.running);
    recorder.map_or(ours, |recorder| match recorder.last_sample_unix_ms {
        0 => ours,
        newest => timestamp(newest),
    })
}

/// How long after a window to go on reading, in ms: what happened in it is recorded by the next sample, which is late
/// in an outage.
pub(crate) const LATE_MS: i64 = 60_000;

impl Span {
    fn parse(window: &Window, otherwise: &str, now: &Zoned) -> Result<Self> {
        let since = window.since.as_deref().unwrap_or(otherwise);
        let from = match since {
            "start" => None,
            text => Some(parse_time(text, now, Edge::Begin)?),
        };
        let until = window.until.as_deref().map(|text| parse_end(text, since, from, now)).transpose()?;
        if until.zip(from).is_some_and(|(until, from)| until <= from) {
            return Err(Error::invalid("the time window is empty: --until must be after --since"));
        }
        Ok(Self { from, until })
    }

    /// Start of the window minus `lead_ms`, in ms since the Unix epoch.
    pub(crate) fn earliest_ms(&self, lead_ms: i64) -> i64 {
        self.from.map_or(i64::MIN, |from| from.as_millisecond().saturating_sub(lead_ms))
    }

    /// End of the window, in ms since the Unix epoch.
    pub(crate) fn latest_ms(&self) -> i64 {
        self.until.map_or(i64::MAX, Timestamp::as_millisecond)
    }

    /// Whether a record with this range overlaps the window.
    fn meets(&self, range: Option<(i64, i64)>) -> bool {
        range.is_some_and(|(oldest, newest)| oldest <= self.latest_ms() && newest >= self.earliest_ms(0))
    }
}

/// How far before a block to look for its predecessor, in ms.
const LEAD_MS: i64 = 10_000;

/// Reads the samples just before a block that was selected for its contents: the previous block, which was not
/// selected, may hold the sample that the first one is compared with. `last_ns` is the boot time of the newest sample
/// already read.
pub(crate) async fn lead(
    source: &Source,
    header: &Header,
    last_ns: Option<u64>,
    columns: Columns,
    mut take: impl FnMut(&Sample),
) -> Result<()> {
    let nearest_ns = header.first_boottime_ns.saturating_sub(LEAD_MS as u64 * 1_000_000);
    if last_ns.is_some_and(|last| (nearest_ns..header.first_boottime_ns).contains(&last)) {
        return Ok(());
    }
    let until_ms = header.earliest_wall_ms.saturating_sub(1);
    let filter = Filter::between(until_ms.saturating_sub(LEAD_MS), until_ms);
    each_sample(source, &filter, columns, |sample| {
        if sample.boot_id == header.boot_id
            && (nearest_ns..header.first_boottime_ns).contains(&sample.boottime_ns)
        {
            take(sample);
        }
    })
    .await
}

/// Reads the samples of the same boot within `span_ms` after `last`.
pub(crate) async fn trail(
    source: &Source,
    last: &Sample,
    span_ms: i64,
    mut take: impl FnMut(&Sample),
) -> Result<()> {
    let until_ms = last.wall_ms.saturating_add(span_ms);
    let filter = Filter::between(last.wall_ms, until_ms);
    each_sample(source, &filter, Columns::ALL, |sample| {
        if sample.boot_id == last.boot_id && sample.boottime_ns > last.boottime_ns {
            take(sample);
        }
    })
    .await
}

/// Passes the samples that a filter selects to `take`, in order.
pub(crate) async fn each_sample(
    source: &Source,
    filter: &Filter,
    columns: Columns,
    mut take: impl FnMut(&Sample),
) -> Result<()> {
    each_piece(source, filter, columns, |piece| {
        if let Piece::Sample(sample) = piece {
            take(sample);
        }
    })
    .await
}

/// Passes everything that a filter selects to `take`, in order.
pub(crate) async fn each_piece(
    source: &Source,
    filter: &Filter,
    columns: Columns,
    mut take: impl FnMut(Piece<'_>),
) -> Result<()> {
    let mut blocks = source.read(filter).await?.opened_ahead(Detail::of(columns));
    while let Some(block) = blocks.next().await? {
        block.each(|piece| {
            take(piece);
            Ok(())
        })?;
    }
    Ok(())
}

/// The time range of a record as a sentence; `None` if the record is empty.
pub(crate) fn range_sentence(range: Option<(i64, i64)>, zone: &TimeZone) -> Option<String> {
    let local = |unix_ms| timestamp(unix_ms).to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
    range.map(|(oldest, newest)| format!("the record covers {} to {}", local(oldest), local(newest)))
}

/// The error for a window without samples.
pub(crate) async fn nothing_there(source: &Source, zone: &TimeZone) -> Error {
    match source.range().await.map(|range| range_sentence(range, zone)) {
        Ok(Some(range)) => Error::invalid("there are no samples in that time").hint(range),
        Ok(None) => Error::invalid("the record is empty").hint(match source {
            Source::Host { .. } => "`ctl status` shows whether the recorder is running",
            Source::Directory(_) => "no file in the directory holds a complete sample",
        }),
        Err(error) => error,
    }
}

/// The error when no process is shown: the window has no samples, or no selected process.
pub(crate) async fn nobody_there(
    source: &Source,
    span: Span,
    selection: &Selection,
    zone: &TimeZone,
) -> Error {
    match source.range().await {
        Ok(range) if span.meets(range) && !selection.is_everything() => {
            let error = Error::invalid(format!("no process in that time matches {}", selection.as_typed()));
            match range_sentence(range, zone) {
                Some(range) => error.hint(format!("{range}; `--since start` searches all of it")),
                None => error,
            }
        }
        Ok(_) => nothing_there(source, zone).await,
        Err(error) => error,
    }
}

/// The message when nothing was found: the window has no samples (an error), the host could not record it (`cannot`
/// gives the reason for the last sample in the window), or it did not happen.
pub(crate) async fn nothing_found(
    source: &Source,
    span: Span,
    what: &str,
    cannot: impl FnOnce(&Sample) -> Option<Unrecorded>,
    output: &Output,
) -> Result<()> {
    let range = source.range().await?;
    if !span.meets(range) {
        return Err(nothing_there(source, &TimeZone::system()).await);
    }
    let newest_ms = range.map_or(i64::MAX, |(_, newest)| newest.min(span.latest_ms()));
    let last = last_before(source, newest_ms).await?;
    match last.as_ref().and_then(cannot) {
        Some(unrecorded) => {
            render::record::info::unrecorded(output, &source.name(), &source.host_in_words(), &unrecorded)
        }
        None => {
            output.note(&format!("no {what} in that time"));
            Ok(())
        }
    }
}

/// The last sample up to `until_ms` (wall time), without its processes.
async fn last_before(source: &Source, until_ms: i64) -> Result<Option<Sample>> {
    let filter = Filter::between(until_ms.saturating_sub(LEAD_MS), until_ms);
    let mut last = None;
    each_sample(source, &filter, Columns::NONE, |sample| {
        if sample.wall_ms <= until_ms {
            last = Some(Sample { processes: Vec::new(), ..sample.clone() });
        }
    })
    .await?;
    Ok(last)
}

/// Writes a note about lost samples in the output format; on stderr for CSV.
pub(crate) fn write_lost(sentence: &str, output: &Output, page: &mut Vec<u8>) -> Result<()> {
    let entry = Entry::Break(Break::Lost(sentence.to_owned()));
    let form = match output.format() {
        Format::Text => Form::Text(Vec::new(), TimeZone::UTC),
        Format::Json => Form::Json,
        Format::Csv => Form::Csv(Vec::new()),
    };
    if let Some(sentence) = log::aside(&entry, &form) {
        output.note(&sentence);
    }
    log::write(&entry, &form, page).map_err(unwritable)
}

pub(crate) fn unwritable(error: io::Error) -> Error {
    Error::invalid(format!("cannot write: {error}"))
}

#[cfg(test)]
mod tests {
    use proto::pb::Recorder;

    use super::*;

    #[test]
    fn a_window_may_end_at_a_time_of_day_that_is_still_to_come() {
        let now = "2026-07-13T17:21:00Z".parse::<Timestamp>().unwrap().to_zoned(TimeZone::UTC);
        let span = |since: Option<&str>, until: &str| {
            let (since, until) = (since.map(Into::into), Some(until.to_owned()));
            Span::parse(&Window { since, until }, "1h", &now)
        };
        let parsed = |since, until| {
            let span = span(since, until).unwrap();
            [span.from, span.until].map(|time| time.unwrap().to_string())
        };
        assert_eq!(parsed(Some("17:00"), "17:59"), ["2026-07-13T17:00:00Z", "2026-07-13T17:59:00Z"]);
        assert_eq!(parsed(None, "17:59"), ["2026-07-13T16:21:00Z", "2026-07-13T17:59:00Z"]);
        assert_eq!(parsed(Some("18:00"), "19:00"), ["2026-07-12T18:00:00Z", "2026-07-12T19:00:00Z"]);
        let error = span(Some("17:10"), "17:00").unwrap_err();
        assert_eq!(error.to_string(), "the time window is empty: --until must be after --since");
    }

    #[test]
    fn spans_count_back_from_the_time_of_the_host() {
        let ours = timestamp(1_000_000);
        let info = |running, last_sample_unix_ms| InfoReply {
            recorder: Some(Recorder { running, last_sample_unix_ms, ..Recorder::default() }),
            ..InfoReply::default()
        };
        assert_eq!(host_time(&info(true, 400_000), ours), timestamp(400_000), "ten minutes slow");
        assert_eq!(host_time(&info(false, 400_000), ours), ours, "the record has ended");
        assert_eq!(host_time(&info(true, 0), ours), ours, "nothing is recorded yet");
        assert_eq!(host_time(&InfoReply::default(), ours), ours);
    }
}
