//! Reads the blocks of a record without decoding them, whether a recorder is writing it or its host is gone.

use std::path::{Path, PathBuf};

use crate::Header;

use super::{Error, blocks::Blocks, filter::Filter, segment, unsealed, while_trying};

/// A record that a recorder may be writing.
#[derive(Clone, Debug)]
pub struct Reader {
    directory: PathBuf,
}

impl Reader {
    /// Reader of the record in this directory, which need not exist yet.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_path_buf() }
    }

    /// The blocks that match the filter, oldest first, the tails last.
    ///
    /// # Errors
    /// If the directory exists but cannot be listed.
    pub fn blocks(&self, filter: Filter) -> Result<Blocks, Error> {
        let tails = unsealed::read(&self.directory);
        let segments = segment::list(&self.directory).map_err(while_trying("list", &self.directory))?;
        Ok(Blocks::new(tails, segments.into_iter().map(|segment| segment.path).collect(), filter))
    }

    /// Headers of all blocks, oldest first, each once, and all losses. Block bodies are not read; headers of tails have no
    /// lengths or checksums.
    ///
    /// # Errors
    /// As [`Reader::blocks`].
    pub fn headers(&self) -> Result<(Vec<Header>, Vec<String>), Error> {
        Ok(self.blocks(Filter::nothing())?.into_headers())
    }
}
