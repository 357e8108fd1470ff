//! Lists segment files and reads one, holding at most one block in memory: first a block's header, then its index, then the
//! whole block, each only if it may be wanted.

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

/// Bytes searched at once for the next good block after damage.
const CHUNK: usize = 64 << 10;

/// A segment found in a directory.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    /// Path of the file.
    pub(super) path: PathBuf,
    /// Size and age.
    pub(super) extent: Extent,
}

/// All segments, oldest first. A missing directory has none.
///
/// The age comes from the file's modification time: segments are only appended to, and this also works for damaged files.
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

/// An open segment and a position in it. Data appended after opening is ignored.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    at: u64,
    length: u64,
}

/// What is at a position in a segment.
#[derive(Debug)]
pub(super) enum Look {
    /// A good block. If it is not wanted, `data` is `None` and only the header was checked.
    Block { header: Header, data: Option<Vec<u8>> },
    /// This many bytes are not a valid block, and why.
    Damaged { bytes: u64, damage: Damage },
    /// The remaining bytes of the file cannot be read from the disk.
    Unreadable { bytes: u64, error: io::Error },
    /// The end of the file.
    End,
}

/// Outer error: the disk; inner error: damaged data.
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

    /// Position in the file, in bytes.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Reads what is at the current position and advances. Skips the bodies of blocks that the filter excludes or that end
    /// before sample `from_sequence`. A read error ends the segment.
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

    /// The header at this position, if the file is long enough for its block.
    fn header(&self, at: u64) -> Read<Header> {
        let header = Header::parse(&self.read(at, HEADER_BYTES)?);
        let fits = |header: &Header| at + header.block_bytes() as u64 <= self.length;
        Ok(header.and_then(|header| if fits(&header) { Ok(header) } else { Err(Damage::Cut) }))
    }

    /// The complete block at this position, with its checksum verified.
    fn block(&self, at: u64, header: &Header) -> Read<Vec<u8>> {
        let data = self.read(at, header.block_bytes())?;
        let checked = Block::parse(&data).map(drop);
        Ok(checked.map(|()| data))
    }

    /// Advances to the next good block.
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

    /// Position of the next good block after the current position; the end of the file if there is none.
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
                // The magic number may also occur inside compressed data: only a valid checksum proves a block.
                if let Ok(header) = self.header(at)?
                    && self.block(at, &header)?.is_ok()
                {
                    return Ok(at);
                }
            }
            // Overlap the chunks: a magic number may cross their boundary.
            from += (chunk.len() - (MAGIC.len() - 1)) as u64;
        }
    }

    fn give_up(&mut self, error: io::Error) -> Look {
        let bytes = self.length - self.at;
        self.at = self.length;
        Look::Unreadable { bytes, error }
    }

    /// Reads up to `count` bytes at a position, fewer at the end; none if the file was truncated meanwhile.
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

/// What a recorder needs to know about the newest segment to continue after a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// Bytes up to the end of the last good block.
    pub(super) good_bytes: u64,
    /// Number of the last sample; `None` without a good block.
    pub(super) last_sequence: Option<u64>,
    /// Some data has another format version: that is not damage and must not be cut off.
    pub(super) foreign: bool,
}

/// Checks a whole segment. Damage in the middle stays; damage at the end is not part of `good_bytes`.
///
/// # Errors
/// If the disk cannot read the whole file.
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
