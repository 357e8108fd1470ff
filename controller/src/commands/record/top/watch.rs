//! Reports new samples as the host takes them. If the host stops answering, reports that and keeps reconnecting.

use std::time::Duration;

use ::record::{Columns, Sample};
use tokio::{select, sync::mpsc::Sender, time::interval};

use super::{News, runs};
use crate::{
    cli::{Cli, Place},
    error::{Error, Result},
    pauses::Pauses,
    record::source::{Detail, Opened, Piece, Source, StoredBlock},
    steps::reading,
};

/// Interval between queries for the host's runs.
const RUNS: Duration = Duration::from_secs(10);

/// Reports every new sample. Never returns; for a directory, it reports nothing.
pub(in crate::commands) async fn watch(
    cli: &Cli,
    place: &Place,
    mut source: Source,
    news: Sender<News>,
) -> Result<()> {
    if matches!(source, Source::Directory(_)) {
        return std::future::pending().await;
    }
    // Wall time of the newest reported sample, in ms: following resumes there after a break. 0 means now.
    let (mut newest_ms, mut until_retry) = (0, pauses());
    loop {
        let before_ms = newest_ms;
        let Err(error) = follow(&source, &mut newest_ms, &news).await;
        tell(&news, News::Down(error.to_string())).await;
        if newest_ms != before_ms {
            until_retry = pauses();
        }
        until_retry.pause().await;
        match reading::source(cli, place).await {
            Ok(found) => {
                source = found;
                tell(&news, News::Up(source.clone())).await;
            }
            Err(error) => tell(&news, News::Down(error.to_string())).await,
        }
    }
}

/// Pauses between reconnects.
fn pauses() -> Pauses {
    Pauses::new(Duration::from_secs(1), Duration::from_secs(30))
}

/// Reports samples until the connection is lost.
async fn follow(
    source: &Source,
    newest_ms: &mut i64,
    news: &Sender<News>,
) -> Result<std::convert::Infallible> {
    let mut blocks = source.follow(*newest_ms).await?;
    let mut ask = interval(RUNS);
    loop {
        select! {
            block = blocks.next() => {
                let block = block?.ok_or_else(|| Error::unreachable("the host closed the connection"))?;
                for sample in samples(block)? {
                    *newest_ms = sample.wall_ms;
                    tell(news, News::Sample(Box::new(sample))).await;
                }
            }
            _ = ask.tick() => tell(news, News::Runs(runs(source).await)).await,
        }
    }
}

fn samples(block: StoredBlock) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    Opened::new(block, &Detail::of(Columns::ALL)).each(|piece| {
        if let Piece::Sample(sample) = piece {
            samples.push(sample.clone());
        }
        Ok(())
    })?;
    Ok(samples)
}

/// Sends an event; fails only when the program ends, which does not matter.
async fn tell(news: &Sender<News>, what: News) {
    let _ = news.send(what).await;
}
