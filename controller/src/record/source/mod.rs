//! Sources of a flight record: a running host's API, or a directory. Both return blocks as stored on disk, oldest first, with
//! sentences about losses. [`record::directory`] reads the blocks in both cases. Other modules interpret them.

mod directory;
mod fetch;
mod info;
mod opened;
mod runs;
#[cfg(test)]
mod tests;

use std::path::Path;

use proto::pb;
use record::Sample;
use tonic::{Streaming, transport::Channel};

pub(crate) use record::directory::{Filter, StoredBlock};

pub(crate) use self::{
    directory::Directory,
    fetch::{Copy, Fetched},
    opened::{Detail, Opened, OpenedAhead},
    runs::KnownRun,
};
use crate::{client, error::Result};

/// Maximum number of runs to request: a host returns no more.
const RUNS: u32 = 100;

/// A record that can be read repeatedly.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A running host.
    Host {
        /// Connection to the host.
        channel: Channel,
        /// Name of the host.
        name: String,
    },
    /// A directory, for instance on the disk of a dead host.
    Directory(Directory),
}

impl Source {
    /// The record of a running host.
    pub(crate) fn host(channel: Channel, name: &str) -> Self {
        Self::Host { channel, name: name.to_owned() }
    }

    /// The record in a directory, or below it if the directory is the root of a host's disk.
    ///
    /// # Errors
    /// If there is no record, or it cannot be read.
    pub(crate) fn directory(path: &Path) -> Result<Self> {
        Directory::open(path).map(Self::Directory)
    }

    /// Name of the host, or path of the directory.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Host { name, .. } => name.clone(),
            Self::Directory(directory) => directory.path().display().to_string(),
        }
    }

    /// The host in a sentence: its name, or where its record is.
    pub(crate) fn host_in_words(&self) -> String {
        match self {
            Self::Host { name, .. } => name.clone(),
            Self::Directory(_) => format!("the host whose record is in {}", self.name()),
        }
    }

    /// Starts reading.
    ///
    /// # Errors
    /// If the host refuses or cannot be reached, or the directory cannot be listed.
    pub(crate) async fn read(&self, filter: &Filter) -> Result<Blocks> {
        Ok(match self {
            Self::Host { channel, name } => Blocks::Host {
                stream: client::history::read(channel.clone(), name, filter).await?,
                name: name.clone(),
            },
            Self::Directory(directory) => Blocks::Directory(directory.blocks(filter.clone())?),
        })
    }

    /// Wall times of the oldest and the newest sample, ms since the Unix epoch; `None` if the record is empty.
    ///
    /// # Errors
    /// Same as [`Source::read`].
    pub(crate) async fn range(&self) -> Result<Option<(i64, i64)>> {
        match self {
            Self::Host { channel, name } => {
                let info = client::history::info(channel.clone(), name).await?;
                Ok((info.samples > 0).then_some((info.oldest_unix_ms, info.newest_unix_ms)))
            }
            Self::Directory(directory) => directory.range(),
        }
    }

    /// Summarizes the record.
    ///
    /// # Errors
    /// Same as [`Source::read`].
    pub(crate) async fn info(&self) -> Result<pb::InfoReply> {
        match self {
            Self::Host { channel, name } => client::history::info(channel.clone(), name).await,
            Self::Directory(directory) => directory.info(),
        }
    }

    /// The runs that the host knows, or those stored with the copy.
    ///
    /// # Errors
    /// Same as [`Source::read`].
    pub(crate) async fn runs(&self) -> Result<Vec<KnownRun>> {
        match self {
            Self::Host { channel, name } => {
                let runs = client::runs::list(channel.clone(), name, RUNS).await?;
                Ok(runs.iter().map(KnownRun::from).collect())
            }
            Self::Directory(directory) => directory.runs(),
        }
    }

    /// Follows the record from a wall time on (ms since the Unix epoch), without end. A directory ends after its last block.
    ///
    /// # Errors
    /// Same as [`Source::read`].
    pub(crate) async fn follow(&self, from_ms: i64) -> Result<Blocks> {
        match self {
            Self::Host { channel, name } => Ok(Blocks::Host {
                stream: client::history::follow(channel.clone(), name, from_ms).await?,
                name: name.clone(),
            }),
            Self::Directory(_) => self.read(&Filter::between(from_ms, i64::MAX)).await,
        }
    }
}

/// The blocks of a record, in order.
#[derive(Debug)]
pub(crate) enum Blocks {
    /// From a host.
    Host {
        /// The answer of the host.
        stream: Streaming<pb::Block>,
        /// Name of the host, for errors.
        name: String,
    },
    /// From a directory.
    Directory(record::directory::Blocks),
}

impl Blocks {
    /// The next block; `None` at the end. Damage is part of a block, not an error.
    ///
    /// # Errors
    /// If the host reports an error or the connection is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<StoredBlock>> {
        match self {
            Self::Host { stream, name } => match stream.message().await {
                Ok(message) => Ok(message.map(|block| StoredBlock { data: block.data, lost: block.lost })),
                Err(status) => Err(client::history::failed(name, &status)),
            },
            Self::Directory(blocks) => Ok(blocks.next()),
        }
    }
}

/// A piece of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece<'a> {
    /// A sample, possibly outside the requested range.
    Sample(&'a Sample),
    /// A sentence about what is damaged or missing at this point.
    Lost(&'a str),
}
