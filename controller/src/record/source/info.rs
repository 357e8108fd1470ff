//! What a directory's record holds, from the headers of its blocks and its newest sample; the same message that a host
//! answers with.

use std::fs;

use proto::glance;
use proto::pb::{self, InfoReply};
use record::{Columns, Header};

use super::{Directory, Filter, Piece};
use crate::error::Result;

impl Directory {
    /// What the record holds.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn info(&self) -> Result<InfoReply> {
        let (headers, lost) = self.headers()?;
        let (info, bytes) = (glance::info(&headers), self.bytes()?);
        let recorder = self.recorder(info.newest_unix_ms, bytes)?;
        Ok(InfoReply { bytes, lost, recorder, ..info })
    }

    /// What all blocks say about themselves, oldest first and each once, and what cannot be read.
    pub(super) fn headers(&self) -> Result<(Vec<Header>, Vec<String>)> {
        let mut blocks = self.blocks(Filter::nothing())?;
        let lost = blocks.by_ref().flat_map(|block| block.lost).collect();
        Ok((blocks.into_headers(), lost))
    }

    /// What the newest sample says of the recorder.
    fn recorder(&self, newest_unix_ms: i64, bytes: u64) -> Result<Option<pb::Recorder>> {
        let filter = Filter { from_ms: newest_unix_ms, until_ms: newest_unix_ms, ..Filter::default() };
        let mut newest = None;
        for block in self.blocks(filter)? {
            block.open(&super::Detail::of(Columns::NONE)).each(|piece| {
                if let Piece::Sample(sample) = piece {
                    // Nobody records here any more.
                    newest = Some(pb::Recorder { bytes, ..glance::recorder(sample) });
                }
                Ok(())
            })?;
        }
        Ok(newest)
    }

    /// Bytes of all its files.
    fn bytes(&self) -> Result<u64> {
        let files =
            fs::read_dir(self.path()).map_err(|error| super::directory::unreadable(self.path(), &error))?;
        Ok(files.flatten().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum())
    }
}
