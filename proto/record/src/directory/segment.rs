//! Segment files: which there are, and a walk through one that holds no more than one block: first a block's header is
//! read, then its index, then all, each only if it is wanted.

use std::{
    borrow::Cow,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use crate::{Block, Damage, HEADER_BYTES, Header, MAGIC};

use super::{filter::Filter, names, retention::Extent};

/// Bytes that are searched at once for the next good block behind damage.
const CHUNK: usize = 64 << 10;

/// A segment that was found in a directory.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Size and age.
    pub(super) extent: Extent,
}

/// All segments, oldest first. A directory that is not there has none.
///
/// The age is the file's time of change: files are only ever appended to, and it holds for damaged ones too.
pub(super) fn list(directory: &Path) -> io::Result<Vec<Listed>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut segments = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if names::first_sequence(&path).is_none() {
            continue;
        }
        // Retention may remove a file while it is being listed.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let changed = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let extent = Extent { bytes: metadata.len(), last_wall_ms: changed.as_millis() as i64 };
        segments.push(Listed { path, extent });
    }
    segments.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(segments)
}

/// An open segment and a place in it. What is appended to the file later is not looked at.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    at: u64,
    length: u64,
}

/// What stands at a place of a segment.
#[derive(Debug)]
pub(super) enum Look {
    /// A good block; without its bytes if it is not wanted, and then only its header was checked.
    Block { header: Header, data: Option<Vec<u8>> },
    /// So many bytes that are no block, and why.
    Damaged { bytes: u64, damage: Damage },
    /// So many bytes, up to the end, that the disk does not give.
    Unreadable { bytes: u64, error: io::Error },
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

    /// Name of the file.
    pub(super) fn name(&self) -> Cow<'_, str> {
        self.path.file_name().unwrap_or_default().to_string_lossy()
    }

    /// How far the walk has come, in bytes.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Looks at what is here and goes on behind it. Of blocks that the filter does not admit, or that end before the
    /// sample of number `from_sequence`, the body is not read. A disk that cannot be read any further ends the segment.
    pub(super) fn look(&mut self, filter: &Filter, from_sequence: u64) -> Look {
        if self.at >= self.length {
            return Look::End;
        }
        match self.wanted_block(filter, from_sequence) {
            Ok(Ok((header, data))) => {
                self.at += header.block_bytes() as u64;
                Look::Block { header, data }
            }
            Ok(Err(damage)) => self.skip(damage),
            Err(error) => self.give_up(error),
        }
    }

    fn wanted_block(&self, filter: &Filter, from_sequence: u64) -> Read<(Header, Option<Vec<u8>>)> {
        let header = match self.header(self.at)? {
            Ok(header) => header,
            Err(damage) => return Ok(Err(damage)),
        };
        if header.last_sequence() < from_sequence || !filter.admits(&header) {
            return Ok(Ok((header, None)));
        }
        if !filter.pids.is_empty() {
            let index = self.read(self.at + HEADER_BYTES as u64, header.index_bytes as usize)?;
            if !filter.admits_processes(&header, &index) {
                return Ok(Ok((header, None)));
            }
        }
        let block = self.block(self.at, &header)?;
        Ok(block.map(|data| (header, Some(data))))
    }

    /// The header at this place, of a block that the file is long enough for.
    fn header(&self, at: u64) -> Read<Header> {
        let header = Header::parse(&self.read(at, HEADER_BYTES)?);
        let fits = |header: &Header| at + header.block_bytes() as u64 <= self.length;
        Ok(header.and_then(|header| if fits(&header) { Ok(header) } else { Err(Damage::Cut) }))
    }

    /// The whole block at this place, checked.
    fn block(&self, at: u64, header: &Header) -> Read<Vec<u8>> {
        let data = self.read(at, header.block_bytes())?;
        let checked = Block::parse(&data).map(drop);
        Ok(checked.map(|()| data))
    }

    /// Goes on to the next good block.
    fn skip(&mut self, damage: Damage) -> Look {
        match self.next_good_block() {
            Ok(next) => {
                let bytes = next - self.at;
                self.at = next;
                Look::Damaged { bytes, damage }
            }
            Err(error) => self.give_up(error),
        }
    }

    /// Where the next good block behind this place begins; the end if there is none.
    fn next_good_block(&self) -> io::Result<u64> {
        let mut from = self.at + 1;
        loop {
            let chunk = self.read(from, CHUNK)?;
            if chunk.len() < MAGIC.len() {
                return Ok(self.length);
            }
            let starts = chunk.windows(MAGIC.len()).enumerate().filter(|(_, bytes)| *bytes == MAGIC);
            for (offset, _) in starts {
                let at = from + offset as u64;
                if let Ok(header) = self.header(at)?
                    && self.block(at, &header)?.is_ok()
                {
                    return Ok(at);
                }
            }
            // A magic number may begin at the end of the chunk.
            from += (chunk.len() - (MAGIC.len() - 1)) as u64;
        }
    }

    fn give_up(&mut self, error: io::Error) -> Look {
        let bytes = self.length - self.at;
        self.at = self.length;
        Look::Unreadable { bytes, error }
    }

    /// As many bytes from a place on as there are, at most `count`; none if the file has been cut shorter meanwhile.
    fn read(&self, at: u64, count: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.length.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; count.min(left)];
        match self.file.read_exact_at(&mut bytes, at) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// What a recorder that goes on after a crash must know of its newest segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// Bytes up to the end of the last good block.
    pub(super) good_bytes: u64,
    /// Number of the last sample.
    pub(super) last_sequence: Option<u64>,
    /// Some of it is of another version of the format: not damage, and not to be cut.
    pub(super) foreign: bool,
}

/// Checks a whole segment. Damage in its middle stays; damage at its end is not part of `good_bytes`.
///
/// # Errors
/// The disk does not give all of it.
pub(super) fn survey(path: &Path) -> io::Result<Survey> {
    let (mut segment, everything) = (Segment::open(path)?, Filter::default());
    let mut survey = Survey::default();
    loop {
        match segment.look(&everything, 0) {
            Look::Block { header, .. } => {
                survey.good_bytes = segment.at();
                survey.last_sequence = survey.last_sequence.max(Some(header.last_sequence()));
            }
            Look::Damaged { damage: Damage::Version { .. }, .. } => survey.foreign = true,
            Look::Damaged { .. } => {}
            Look::Unreadable { error, .. } => return Err(error),
            Look::End => return Ok(survey),
        }
    }
}
