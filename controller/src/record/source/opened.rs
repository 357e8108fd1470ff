//! Checks and decompresses blocks ahead of their reader.

use record::{Block, Columns, Damage, Header, Samples, Sources, directory::StoredBlock};
use tokio::sync::mpsc;

use super::{Blocks, Piece};
use crate::error::Result;

/// Maximum number of decompressed blocks that wait for the reader; each takes one or two megabytes.
const AHEAD: usize = 2;

/// Which data of processes is decoded.
#[derive(Clone, Debug)]
pub(crate) struct Detail {
    /// Numeric columns to decode; the others are not updated.
    pub columns: Columns,
    /// Processes with other pids have only an identity, unless all are needed for the I/O of these. Empty: all
    /// processes are decoded.
    pub pids: Vec<u32>,
}

impl Detail {
    /// These columns of all processes.
    pub(crate) fn of(columns: Columns) -> Self {
        Self { columns, pids: Vec::new() }
    }

    /// Whether all processes must be decoded: the kernel adds the I/O of exited children to that of their parents, and
    /// where exits are not recorded, only the parents of all processes show which counters that may concern.
    fn needs_all(&self, block: &Block<'_>) -> std::result::Result<bool, Damage> {
        let wants = |column| self.columns.with(column) == self.columns;
        if !wants(Columns::READ) && !wants(Columns::WRITTEN) {
            return Ok(false);
        }
        // A block is of one recorder, which had the same sources all the time.
        let mut samples = block.samples_of(Columns::NONE)?;
        let first = samples.advance().transpose()?;
        Ok(first.is_some_and(|sample| !sample.sources.has(Sources::EXITS)))
    }
}

/// A block that was checked and decompressed.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The block's header; `None` if there are only losses to report.
    pub header: Option<Header>,
    lost: Vec<String>,
    samples: Option<std::result::Result<Samples, Damage>>,
}

impl Opened {
    /// Checks and decompresses a block.
    pub(crate) fn new(stored: StoredBlock, detail: &Detail) -> Self {
        let samples = (!stored.data.is_empty()).then(|| {
            let block = Block::parse(&stored.data)?;
            if detail.pids.is_empty() || detail.needs_all(&block)? {
                block.samples_of(detail.columns)
            } else {
                block.samples_of_processes(detail.columns, &detail.pids)
            }
        });
        Self { header: stored.header(), lost: stored.lost, samples }
    }

    /// Passes the contents of the block to `take`, in order, without copying samples.
    ///
    /// # Errors
    /// Errors of `take`.
    pub(crate) fn each(self, mut take: impl FnMut(Piece<'_>) -> Result<()>) -> Result<()> {
        let Self { lost, samples, .. } = self;
        lost.iter().try_for_each(|sentence| take(Piece::Lost(sentence)))?;
        let damaged = |damage: &Damage| format!("cannot read a block: {damage}");
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

/// Blocks that are opened before the reader asks for them.
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
    /// Opens blocks in another task until the receiver is dropped.
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
