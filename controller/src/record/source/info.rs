//! What a directory's record holds, from the headers of its blocks and its newest sample; the same message that a host
//! answers with.

use proto::glance;
use proto::pb::{self, InfoReply};
use record::{
    Header,
    directory::{Reader, newest, total_bytes},
};

use super::{Directory, directory::unreadable};
use crate::error::Result;

impl Directory {
    /// What the record holds.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub(crate) fn info(&self) -> Result<InfoReply> {
        let (headers, lost) = self.headers()?;
        let failed = |error| unreadable(self.path(), error);
        let bytes = total_bytes(self.path()).map_err(failed)?;
        let newest = newest(self.path()).map_err(failed)?;
        // Nobody records here any more, whatever was told to be running.
        let recorder = newest.map(|sample| pb::Recorder { bytes, ..glance::recorder(&sample) });
        Ok(InfoReply { bytes, lost, recorder, ..glance::info(&headers) })
    }

    /// What all blocks say about themselves, oldest first and each once, and what cannot be read.
    pub(super) fn headers(&self) -> Result<(Vec<Header>, Vec<String>)> {
        Reader::new(self.path()).headers().map_err(|error| unreadable(self.path(), error))
    }
}
