//! Reading a record, whether it is being written or its host is dead: blocks as they lie on disk, without decoding them.

use std::path::{Path, PathBuf};

use crate::Header;

use super::{Error, blocks::Blocks, filter::Filter, segment, unsealed, while_trying};

/// A record that someone may be writing to.
#[derive(Clone, Debug)]
pub struct Reader {
    directory: PathBuf,
}

impl Reader {
    /// For the record in this directory, which need not exist yet.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_path_buf() }
    }

    /// The blocks that are wanted, oldest first, the tails last.
    ///
    /// # Errors
    /// The directory is there and cannot be listed.
    pub fn blocks(&self, filter: Filter) -> Result<Blocks, Error> {
        let tails = unsealed::read(&self.directory);
        let segments = segment::list(&self.directory).map_err(while_trying("list", &self.directory))?;
        Ok(Blocks::new(tails, segments.into_iter().map(|segment| segment.path).collect(), filter))
    }

    /// What every block says about itself, oldest first and each once, and every word on what is lost. Bodies are not read;
    /// what is in a tail has no lengths and checksums.
    ///
    /// # Errors
    /// As [`Reader::blocks`].
    pub fn headers(&self) -> Result<(Vec<Header>, Vec<String>), Error> {
        Ok(self.blocks(Filter::nothing())?.into_headers())
    }
}
