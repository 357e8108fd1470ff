//! Summarizes a record in a directory from its block headers and its newest sample, in the same message as a host's answer.

use proto::{
    glance,
    pb::{self, InfoReply},
};
use record::{
    Header,
    directory::{Reader, newest, total_bytes},
};

use super::{Directory, directory::unreadable};
use crate::error::Result;

impl Directory {
    /// Summarizes the record.
    ///
    /// # Errors
    /// If the directory cannot be listed.
    pub(crate) fn info(&self) -> Result<InfoReply> {
        let (headers, lost) = self.headers()?;
        let failed = |error| unreadable(self.path(), error);
        let bytes = total_bytes(self.path()).map_err(failed)?;
        let newest = newest(self.path()).map_err(failed)?;
        // No recorder writes to this directory: `running` stays false.
        let recorder = newest.map(|sample| pb::Recorder { bytes, ..glance::recorder(&sample) });
        Ok(InfoReply { bytes, lost, recorder, ..glance::info(&headers) })
    }

    /// Headers of all blocks, oldest first, each once, and all losses.
    pub(super) fn headers(&self) -> Result<(Vec<Header>, Vec<String>)> {
        Reader::new(self.path()).headers().map_err(|error| unreadable(self.path(), error))
    }
}
