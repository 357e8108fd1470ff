//! `ctl diagnose`: what went wrong, who caused it, and what to do.

use ::record::{Columns, Sample};
use jiff::tz::TimeZone;

use crate::steps::reading::{self, Span};
use crate::{
    cli::{Cli, Diagnose as Args, Place},
    error::Result,
    record::{
        diagnose::{Found, Survey},
        query::Query,
        source::{Filter, KnownRun, Piece, Source},
    },
    render::{self, Output, record::diagnose::Subject},
};

/// What the first pass needs of every process; the second reads everything, for a short time.
const COLUMNS: Columns = Columns::CPU.with(Columns::FOOTPRINT).with(Columns::PARENT).with(Columns::GROUPS);

/// `ctl diagnose`
pub(in crate::commands) async fn diagnose(cli: &Cli, args: &Args, output: &Output) -> Result<()> {
    let places: Vec<Place> = match &args.from_dir {
        Some(directory) => vec![Place { host: None, from_dir: Some(directory.clone()) }],
        None => args.hosts.iter().map(|host| Place { host: Some(host.clone()), from_dir: None }).collect(),
    };
    for place in places {
        let source = reading::source(cli, &place).await?;
        let span = reading::span(&args.window, "1d", &source).await?;
        one(&source, place.as_typed(), span, output).await?;
    }
    Ok(())
}

async fn one(source: &Source, argument: String, span: Span, output: &Output) -> Result<()> {
    let zone = TimeZone::system();
    let Some(length_ms) = length_ms(source, span).await? else {
        return Err(reading::nothing_there(source, &zone).await);
    };
    let query = Query { from: span.from, until: span.until, ..Query::default() };
    let mut survey = Survey::new(query, length_ms);
    let mut lost = Vec::new();
    let window = Filter::between(span.earliest_ms(0), span.latest_ms());
    reading::each_piece(source, &window, COLUMNS, |piece| match piece {
        Piece::Sample(sample) => survey.push(sample),
        Piece::Lost(sentence) => lost.push(sentence.to_owned()),
    })
    .await?;
    lost.iter().for_each(|sentence| output.note(sentence));
    let Some(range_ms) = survey.range_ms() else { return Err(reading::nothing_there(source, &zone).await) };
    let runs = known_runs(source, output).await;
    let mut verdicts = Vec::new();
    for found in survey.found() {
        let samples = around(source, &found).await?;
        verdicts.extend(survey.judge(&found, &samples, &runs));
    }
    verdicts.extend(survey.trends(&verdicts, &runs));
    let subject = Subject { name: source.name(), argument, range_ms };
    if verdicts.is_empty() {
        return render::record::diagnose::healthy(output, &subject, &survey.cannot_tell(), &zone);
    }
    for verdict in &verdicts {
        render::record::diagnose::verdict(output, &subject, verdict, &zone)?;
    }
    Ok(())
}

/// Length of the part of the record that is in the window, ms; `None` if there is none.
async fn length_ms(source: &Source, span: Span) -> Result<Option<i64>> {
    let range = source.range().await?;
    Ok(range.and_then(|(oldest, newest)| {
        let (from, until) = (oldest.max(span.earliest_ms(0)), newest.min(span.latest_ms()));
        (from <= until).then_some(until - from)
    }))
}

/// The runs of the host; a verdict without them is still one.
async fn known_runs(source: &Source, output: &Output) -> Vec<KnownRun> {
    source.runs().await.unwrap_or_else(|error| {
        output.note(&format!("runs are not considered: {error}"));
        Vec::new()
    })
}

/// The samples around an episode.
async fn around(source: &Source, found: &Found) -> Result<Vec<Sample>> {
    let (from_ms, until_ms) = found.window_ms();
    let mut samples: Vec<Sample> = Vec::new();
    reading::each_sample(source, &Filter::between(from_ms, until_ms), Columns::ALL, |sample| {
        if (from_ms..=until_ms).contains(&sample.wall_ms) && found.wants(sample, samples.last()) {
            samples.push(sample.clone());
        }
    })
    .await?;
    Ok(samples)
}
