//! Where a flight record is read from: a host, over its API, or the directory of a host that is dead. Both give
//! blocks as they lie on disk, oldest first, and sentences about what is lost, which [`record::directory`] gives there as
//! here; what the blocks mean is for others.

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

/// Runs that are asked for: as many as a host gives.
const RUNS: u32 = 100;

/// A record that can be read again and again.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A host that is up.
    Host {
        /// A connection to it.
        channel: Channel,
        /// How it is called.
        name: String,
    },
    /// The disk of a host.
    Directory(Directory),
}

impl Source {
    /// The record of a host that is up.
    pub(crate) fn host(channel: Channel, name: &str) -> Self {
        Self::Host { channel, name: name.to_owned() }
    }

    /// The record in a directory, or below it if it is the root of a host's disk.
    ///
    /// # Errors
    /// There is no record, or it cannot be read.
    pub(crate) fn directory(path: &Path) -> Result<Self> {
        Directory::open(path).map(Self::Directory)
    }

    /// How it is called: the host's name, or the path.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Host { name, .. } => name.clone(),
            Self::Directory(directory) => directory.path().display().to_string(),
        }
    }

    /// Begins to read.
    ///
    /// # Errors
    /// The host refuses, or cannot be asked.
    pub(crate) async fn read(&self, filter: &Filter) -> Result<Blocks> {
        Ok(match self {
            Self::Host { channel, name } => Blocks::Host {
                stream: client::history::read(channel.clone(), name, filter).await?,
                name: name.clone(),
            },
            Self::Directory(directory) => Blocks::Directory(directory.blocks(filter.clone())?),
        })
    }

    /// Wall times of the oldest and the newest sample, ms since the Unix epoch; `None` of an empty record.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub(crate) async fn range(&self) -> Result<Option<(i64, i64)>> {
        match self {
            Self::Host { channel, name } => {
                let info = client::history::info(channel.clone(), name).await?;
                Ok((info.samples > 0).then_some((info.oldest_unix_ms, info.newest_unix_ms)))
            }
            Self::Directory(directory) => directory.range(),
        }
    }

    /// What the record holds.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub(crate) async fn info(&self) -> Result<pb::InfoReply> {
        match self {
            Self::Host { channel, name } => client::history::info(channel.clone(), name).await,
            Self::Directory(directory) => directory.info(),
        }
    }

    /// The runs that are known where the record is.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub(crate) async fn runs(&self) -> Result<Vec<KnownRun>> {
        match self {
            Self::Host { channel, name } => {
                let runs = client::runs::list(channel.clone(), name, RUNS).await?;
                Ok(runs.iter().map(KnownRun::from).collect())
            }
            Self::Directory(directory) => directory.runs(),
        }
    }

    /// What is recorded from a wall time on, without end; of a directory, what there is.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub(crate) async fn follow(&self, from_ms: i64) -> Result<Blocks> {
        match self {
            Self::Host { channel, name } => Ok(Blocks::Host {
                stream: client::history::follow(channel.clone(), name, from_ms).await?,
                name: name.clone(),
            }),
            Self::Directory(_) => self.read(&Filter { from_ms, ..Filter::default() }).await,
        }
    }
}

/// A record on its way.
#[derive(Debug)]
pub(crate) enum Blocks {
    /// From a host.
    Host {
        /// What comes.
        stream: Streaming<pb::Block>,
        /// Who sends it.
        name: String,
    },
    /// From a directory.
    Directory(record::directory::Blocks),
}

impl Blocks {
    /// The next block; `None` at the end. Damage is part of a block, not an error.
    ///
    /// # Errors
    /// The connection is lost, or a file cannot be read.
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
    /// A sample. Samples outside of the range asked for are among them.
    Sample(&'a Sample),
    /// A sentence about what is damaged or missing at this place.
    Lost(&'a str),
}
