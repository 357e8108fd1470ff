//! Segment files, read one at a time and only as far as is wanted: first a block's header, then its index, then all.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use record::{Block, Damage, Found, HEADER_BYTES, Header, index, walk};

use super::Filter;

/// An open segment and a place in it.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    at: u64,
    length: u64,
}

/// What stands at a place of a segment.
pub(super) enum Look {
    /// A good block; without its bytes if it is not wanted.
    Block { header: Header, data: Option<Vec<u8>> },
    /// Bytes that are no block, as a sentence.
    Damaged(String),
    /// The end of the file.
    End,
}

/// What a disk gave, and what it makes.
type Read<T> = io::Result<Result<T, Damage>>;

impl Segment {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { path: path.to_path_buf(), file, at: 0, length })
    }

    /// Looks at what is here and goes on behind it. A disk that cannot be read any further ends the segment.
    pub(super) fn look(&mut self, filter: &Filter) -> Look {
        if self.at >= self.length {
            return Look::End;
        }
        match self.block(filter) {
            Ok(Ok((header, data))) => {
                self.at += header.block_bytes() as u64;
                Look::Block { header, data }
            }
            Ok(Err(damage)) => self.skip(&damage),
            Err(error) => self.give_up(&error),
        }
    }

    fn block(&self, filter: &Filter) -> Read<(Header, Option<Vec<u8>>)> {
        let mut data = self.read(HEADER_BYTES)?;
        let header = match Header::parse(&data) {
            Ok(header) => header,
            Err(damage) => return Ok(Err(damage)),
        };
        if self.at + header.block_bytes() as u64 > self.length {
            return Ok(Err(Damage::Cut));
        }
        match self.is_wanted(&header, filter)? {
            Ok(true) => {}
            Ok(false) => return Ok(Ok((header, None))),
            Err(damage) => return Ok(Err(damage)),
        }
        data = self.read(header.block_bytes())?;
        let checked = Block::parse(&data).map(drop);
        Ok(checked.map(|()| (header, Some(data))))
    }

    fn is_wanted(&self, header: &Header, filter: &Filter) -> Read<bool> {
        if !filter.admits(header) {
            return Ok(Ok(false));
        }
        if filter.pids.is_empty() {
            return Ok(Ok(true));
        }
        let bytes = self.read(HEADER_BYTES + header.index_bytes as usize)?;
        let mut wanted = false;
        let known = index(header, bytes.get(HEADER_BYTES..).unwrap_or_default(), |identity| {
            wanted |= filter.pids.contains(&identity.pid);
        });
        Ok(known.map(|()| wanted))
    }

    /// Goes on to the next good block.
    fn skip(&mut self, damage: &Damage) -> Look {
        let rest = usize::try_from(self.length - self.at).unwrap_or(usize::MAX);
        let rest = match self.read(rest) {
            Ok(rest) => rest,
            Err(error) => return self.give_up(&error),
        };
        let next = walk(&rest).find_map(|found| match found {
            Found::Block(at, _) => Some(at),
            Found::Damaged(..) => None,
        });
        let skipped = next.unwrap_or(rest.len()).max(1);
        self.at += skipped as u64;
        Look::Damaged(format!("{skipped} bytes of {} cannot be read: {damage}", self.name()))
    }

    fn give_up(&mut self, error: &io::Error) -> Look {
        let skipped = self.length - self.at;
        self.at = self.length;
        Look::Damaged(format!("the last {skipped} bytes of {} cannot be read: {error}", self.name()))
    }

    fn name(&self) -> std::borrow::Cow<'_, str> {
        self.path.file_name().unwrap_or_default().to_string_lossy()
    }

    /// As many bytes from here on as there are, at most `count`.
    fn read(&self, count: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.length - self.at).unwrap_or(usize::MAX);
        let mut bytes = vec![0; count.min(left)];
        match self.file.read_exact_at(&mut bytes, self.at) {
            Ok(()) => Ok(bytes),
            // Cut shorter meanwhile.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}
