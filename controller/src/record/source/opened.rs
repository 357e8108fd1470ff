//! Blocks on their way to a reader: checked and decompressed, the next ones while one is being looked at.

use record::{Block, Columns, Damage, Header, Samples, directory::StoredBlock};
use tokio::sync::mpsc;

use super::{Blocks, Piece};
use crate::error::Result;

/// So many blocks may wait to be looked at; each is a megabyte or two.
const AHEAD: usize = 2;

/// What of the processes is decoded.
#[derive(Clone, Debug)]
pub(crate) struct Detail {
    /// Other columns of numbers are not kept up to date.
    pub columns: Columns,
    /// Of processes with other ids only the identities are known; empty: all.
    pub pids: Vec<u32>,
}

impl Detail {
    /// These columns of all processes.
    pub(crate) fn of(columns: Columns) -> Self {
        Self { columns, pids: Vec::new() }
    }
}

/// A block that can be looked at.
#[derive(Debug)]
pub(crate) struct Opened {
    /// What it says about itself; absent if there is only something to say about what was lost.
    pub header: Option<Header>,
    lost: Vec<String>,
    samples: Option<std::result::Result<Samples, Damage>>,
}

impl Opened {
    /// Checks and decompresses a block.
    pub(crate) fn new(stored: StoredBlock, detail: &Detail) -> Self {
        let samples = (!stored.data.is_empty()).then(|| {
            let block = Block::parse(&stored.data)?;
            if detail.pids.is_empty() {
                block.samples_of(detail.columns)
            } else {
                block.samples_of_processes(detail.columns, &detail.pids)
            }
        });
        Self { header: stored.header(), lost: stored.lost, samples }
    }

    /// Gives what is in the block, in order, without a copy of it.
    ///
    /// # Errors
    /// Those of `take`.
    pub(crate) fn each(self, mut take: impl FnMut(Piece<'_>) -> Result<()>) -> Result<()> {
        let Self { lost, samples, .. } = self;
        lost.iter().try_for_each(|sentence| take(Piece::Lost(sentence)))?;
        let damaged = |damage: &Damage| format!("a block of history cannot be read: {damage}");
        let mut samples = match samples {
            Some(Ok(samples)) => samples,
            Some(Err(damage)) => return take(Piece::Lost(&damaged(&damage))),
            None => return Ok(()),
        };
        while let Some(sample) = samples.advance() {
            match sample {
                Ok(sample) => take(Piece::Sample(sample))?,
                Err(damage) => take(Piece::Lost(&damaged(&damage)))?,
            }
        }
        Ok(())
    }
}

/// Blocks that are opened before they are asked for.
#[derive(Debug)]
pub(crate) struct OpenedAhead(mpsc::Receiver<Result<Opened>>);

impl OpenedAhead {
    /// The next block; `None` at the end.
    ///
    /// # Errors
    /// As [`Blocks::next`].
    pub(crate) async fn next(&mut self) -> Result<Option<Opened>> {
        self.0.recv().await.transpose()
    }
}

impl Blocks {
    /// Opens blocks by another thread as long as somebody takes them.
    pub(crate) fn opened_ahead(mut self, detail: Detail) -> OpenedAhead {
        let (sender, receiver) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            while let Some(next) = self.next().await.transpose() {
                if sender.send(next.map(|block| Opened::new(block, &detail))).await.is_err() {
                    return;
                }
            }
        });
        OpenedAhead(receiver)
    }
}
