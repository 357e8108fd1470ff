//! What all verbs that read a record begin with: where it is, and from when until when.

use std::{io, slice};

use jiff::{Timestamp, Zoned, tz::TimeZone};
use proto::pb::InfoReply;
use record::{Columns, Header, Sample};

use crate::{
    cli::{Cli, Format, Place, Window},
    context::Context,
    error::{Error, Result},
    record::{
        breaks::Break,
        log::Entry,
        selection::Selection,
        source::{Detail, Filter, Opened, Piece, Source},
        time::{Edge, parse_time, timestamp},
    },
    render::{
        self, Output,
        record::info::Unrecorded,
        record::log::{self, Form},
    },
};

/// The record that was meant. Only a host's needs a fleet.
pub(super) async fn source(cli: &Cli, place: &Place) -> Result<Source> {
    if let Some(directory) = &place.from_dir {
        return Source::directory(directory);
    }
    let Some(host) = &place.host else { return Err(Error::invalid("whose record? name a host")) };
    let context = Context::load(cli)?;
    let hosts = context.running(slice::from_ref(host), None).await?;
    let channel = context.connect(&hosts[0]).await?.channel;
    Ok(Source::host(channel, &hosts[0].name))
}

/// A window of time; what is absent is as far as there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
}

/// The window that was meant, by the clock of the host whose record it is.
pub(super) async fn span(window: &Window, otherwise: &str, source: &Source) -> Result<Span> {
    let now = now(source).await?;
    let from = match window.since.as_deref().unwrap_or(otherwise) {
        "start" => None,
        text => Some(parse_time(text, &now, Edge::Begin)?),
    };
    let until = window.until.as_deref().map(|text| parse_time(text, &now, Edge::End)).transpose()?;
    if until.zip(from).is_some_and(|(until, from)| until <= from) {
        return Err(Error::invalid("the window is empty: --until is not after --since"));
    }
    Ok(Span { from, until })
}

/// What time it is where the record is. On the disk of a dead host, time ends with its newest sample.
async fn now(source: &Source) -> Result<Zoned> {
    let now = match source {
        Source::Host { .. } => host_time(&source.info().await?, Timestamp::now()),
        Source::Directory(directory) => {
            directory.range()?.map_or_else(Timestamp::now, |(_, newest)| timestamp(newest))
        }
    };
    Ok(now.to_zoned(TimeZone::system()))
}

/// What time it is on a host, by the sample that its recorder has just taken: its clock may be another than ours. Where none is
/// taken, ours has to do.
pub(super) fn host_time(info: &InfoReply, ours: Timestamp) -> Timestamp {
    let recorder = info.recorder.as_ref().filter(|recorder| recorder.running);
    recorder.map_or(ours, |recorder| match recorder.last_sample_unix_ms {
        0 => ours,
        newest => timestamp(newest),
    })
}

impl Span {
    /// The earliest wall time that is wanted, ms since the Unix epoch, with `lead_ms` before the window.
    pub(super) fn earliest_ms(&self, lead_ms: i64) -> i64 {
        self.from.map_or(i64::MIN, |from| from.as_millisecond().saturating_sub(lead_ms))
    }

    /// The latest wall time that is wanted.
    pub(super) fn latest_ms(&self) -> i64 {
        self.until.map_or(i64::MAX, Timestamp::as_millisecond)
    }

    /// Whether a record of this range has anything inside of the window.
    fn meets(&self, range: Option<(i64, i64)>) -> bool {
        range.is_some_and(|(oldest, newest)| oldest <= self.latest_ms() && newest >= self.earliest_ms(0))
    }
}

/// How far before a block its predecessor is looked for.
const LEAD_MS: i64 = 10_000;

/// Reads what is before a block that was chosen for its contents: the block before it, which was not, may hold what
/// its first sample is compared with. `last_ns` is the time since boot of the newest sample at hand.
pub(super) async fn lead(
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
    let filter = Filter { from_ms: until_ms.saturating_sub(LEAD_MS), until_ms, ..Filter::default() };
    each_sample(source, &filter, columns, |sample| {
        if sample.boot_id == header.boot_id
            && (nearest_ns..header.first_boottime_ns).contains(&sample.boottime_ns)
        {
            take(sample);
        }
    })
    .await
}

/// Reads the samples of the same boot that come within `span_ms` after one.
pub(super) async fn trail(
    source: &Source,
    last: &Sample,
    span_ms: i64,
    mut take: impl FnMut(&Sample),
) -> Result<()> {
    let until_ms = last.wall_ms.saturating_add(span_ms);
    let filter = Filter { from_ms: last.wall_ms, until_ms, ..Filter::default() };
    each_sample(source, &filter, Columns::ALL, |sample| {
        if sample.boot_id == last.boot_id && sample.boottime_ns > last.boottime_ns {
            take(sample);
        }
    })
    .await
}

async fn each_sample(
    source: &Source,
    filter: &Filter,
    columns: Columns,
    mut take: impl FnMut(&Sample),
) -> Result<()> {
    let mut blocks = source.read(filter).await?;
    while let Some(block) = blocks.next().await? {
        Opened::new(block, &Detail::of(columns)).each(|piece| {
            if let Piece::Sample(sample) = piece {
                take(sample);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// From when until when the record reaches, in words; `None` of an empty one.
fn range_sentence(range: Option<(i64, i64)>, zone: &TimeZone) -> Option<String> {
    let local = |unix_ms| timestamp(unix_ms).to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
    range.map(|(oldest, newest)| format!("the record reaches from {} to {}", local(oldest), local(newest)))
}

/// Why nothing is shown, if the window holds no sample.
pub(super) async fn nothing_there(source: &Source, zone: &TimeZone) -> Error {
    match source.range().await.map(|range| range_sentence(range, zone)) {
        Ok(Some(range)) => Error::invalid("there are no samples in that time").hint(range),
        Ok(None) => {
            Error::invalid("the record is empty").hint("`ctl status` shows whether the host's recorder runs")
        }
        Err(error) => error,
    }
}

/// Why no process is shown: the window holds no sample, or none of the processes that were selected.
pub(super) async fn nobody_there(
    source: &Source,
    span: Span,
    selection: &Selection,
    zone: &TimeZone,
) -> Error {
    match source.range().await {
        Ok(range) if span.meets(range) && !selection.is_everything() => {
            let error = Error::invalid(format!("no process in that time fits {}", selection.as_typed()));
            match range_sentence(range, zone) {
                Some(range) => error.hint(format!("{range}; `--since start` looks at all of it")),
                None => error,
            }
        }
        Ok(_) => nothing_there(source, zone).await,
        Err(error) => error,
    }
}

/// What to say where nothing was found: the window holds no sample, or the host could not have recorded it (`cannot`
/// says why, of the last sample in the window), or it did not happen.
pub(super) async fn nothing_found(
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
        Some(unrecorded) => render::record::info::unrecorded(output, &source.name(), &unrecorded),
        None => {
            output.note(&format!("no {what} in that time"));
            Ok(())
        }
    }
}

/// The last sample up to a wall time, without its processes.
async fn last_before(source: &Source, until_ms: i64) -> Result<Option<Sample>> {
    let filter = Filter { from_ms: until_ms.saturating_sub(LEAD_MS), until_ms, ..Filter::default() };
    let mut last = None;
    each_sample(source, &filter, Columns::NONE, |sample| {
        if sample.wall_ms <= until_ms {
            last = Some(Sample { processes: Vec::new(), ..sample.clone() });
        }
    })
    .await?;
    Ok(last)
}

/// Writes a sentence about what is lost where it belongs, or beside rows.
pub(super) fn write_lost(sentence: &str, output: &Output, page: &mut Vec<u8>) -> Result<()> {
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

pub(super) fn unwritable(error: io::Error) -> Error {
    Error::invalid(format!("cannot write: {error}"))
}

#[cfg(test)]
mod tests {
    use proto::pb::Recorder;

    use super::*;

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
