//! Reading the record while it is being written: blocks as they lie on disk, without decoding them.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use proto::history::{Block, Damage, Found, HEADER_BYTES, Header, tail, walk};

use super::{
    Error, TAIL,
    segment::{self, Segment},
    while_trying,
};

/// A record that someone may be writing to.
#[derive(Clone, Debug)]
pub struct Reader {
    directory: PathBuf,
}

/// One block as it lies on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredBlock {
    /// The block; empty if there is only something to say about what was lost at the end.
    pub data: Vec<u8>,
    /// Sentences about what could not be read just before it.
    pub lost: Vec<String>,
}

impl Reader {
    /// For the record in this directory, which need not exist yet.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_path_buf() }
    }

    /// The blocks in which some sample may lie between two wall times, oldest first, the tail last.
    pub fn blocks(&self, from_ms: i64, until_ms: i64) -> Result<Blocks, Error> {
        // The tail first: what becomes a block meanwhile is then seen twice, and told by its number, not missed.
        let mut lost = Vec::new();
        let tail = read_tail(&self.directory.join(TAIL), &mut lost)?;
        let segments = segment::list(&self.directory).map_err(while_trying("list", &self.directory))?;
        Ok(Blocks {
            range: (from_ms, until_ms),
            segments: segments.into(),
            open: None,
            tail,
            last_sequence: None,
            lost: Vec::new(),
            tail_lost: lost,
        })
    }
}

/// The tail as a block; nothing if it is empty or not there.
fn read_tail(path: &Path, lost: &mut Vec<String>) -> Result<Option<Vec<u8>>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(while_trying("read", path)(error)),
    };
    let scan = match tail::scan(&bytes) {
        Ok(scan) => scan,
        Err(damage) => {
            lost.push(format!("the newest samples cannot be read: {damage}"));
            return Ok(None);
        }
    };
    // A frame cut short is one that is being written, or that a crash cut: it never was a sample.
    if let Some(damage) = scan.damage.filter(|damage| *damage != Damage::Cut) {
        let count = bytes.len() - scan.good_bytes;
        lost.push(format!("the last {count} bytes of the newest samples cannot be read: {damage}"));
    }
    scan.builder.seal().transpose().map_err(while_trying("compress", path))
}

/// An iterator over blocks; each segment is opened when it is its turn.
#[derive(Debug)]
pub struct Blocks {
    range: (i64, i64),
    segments: VecDeque<Segment>,
    open: Option<OpenSegment>,
    tail: Option<Vec<u8>>,
    last_sequence: Option<u64>,
    lost: Vec<String>,
    tail_lost: Vec<String>,
}

#[derive(Debug)]
struct OpenSegment {
    path: PathBuf,
    file: File,
    at: u64,
    newest: bool,
}

/// What stands at a place of a segment.
enum Step {
    Block(Vec<u8>),
    Skipped,
    Damaged(Damage),
    End,
}

impl Iterator for Blocks {
    type Item = Result<StoredBlock, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.open.is_none() {
                match self.open_next() {
                    Ok(true) => {}
                    Ok(false) => return self.finish().map(Ok),
                    Err(error) => return Some(Err(error)),
                }
            }
            match self.step() {
                Ok(Some(block)) => return Some(Ok(block)),
                Ok(None) => {}
                Err(error) => {
                    self.open = None;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Blocks {
    fn open_next(&mut self) -> Result<bool, Error> {
        while let Some(Segment { path, .. }) = self.segments.pop_front() {
            match File::open(&path) {
                Ok(file) => {
                    self.open = Some(OpenSegment { path, file, at: 0, newest: self.segments.is_empty() });
                    return Ok(true);
                }
                // Shed since it was listed: it was the oldest, and is no longer part of the history.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(while_trying("open", &path)(error)),
            }
        }
        Ok(false)
    }

    /// Goes one block on in the open segment.
    fn step(&mut self) -> Result<Option<StoredBlock>, Error> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let (header, step) = open.look(self.range).map_err(while_trying("read", &open.path))?;
        if let Some(header) = header {
            self.last_sequence = self.last_sequence.max(Some(header.last_sequence()));
            open.at += header.block_bytes() as u64;
        }
        match step {
            Step::Block(data) => return Ok(Some(StoredBlock { data, lost: std::mem::take(&mut self.lost) })),
            Step::Skipped => {}
            Step::Damaged(damage) => match open.skip_damage().map_err(while_trying("read", &open.path))? {
                Some(count) => self.lost.push(format!("{count} bytes of history cannot be read: {damage}")),
                None => self.open = None,
            },
            Step::End => self.open = None,
        }
        Ok(None)
    }

    /// After the last segment: the tail, unless it has become a block, and what was lost last.
    fn finish(&mut self) -> Option<StoredBlock> {
        let wanted = |data: &Vec<u8>| {
            Header::parse(data).is_ok_and(|header| {
                Some(header.first_sequence) > self.last_sequence
                    && header.overlaps(self.range.0, self.range.1)
            })
        };
        let data = self.tail.take().filter(wanted).unwrap_or_default();
        let mut lost = std::mem::take(&mut self.lost);
        lost.append(&mut self.tail_lost);
        (!data.is_empty() || !lost.is_empty()).then_some(StoredBlock { data, lost })
    }
}

impl OpenSegment {
    /// Reads the header at the present place and, if it is wanted, its block.
    fn look(&self, range: (i64, i64)) -> io::Result<(Option<Header>, Step)> {
        let mut data = vec![0; HEADER_BYTES];
        let count = read_up_to(&self.file, &mut data, self.at)?;
        if count == 0 {
            return Ok((None, Step::End));
        }
        let header = match Header::parse(&data[..count]) {
            Ok(header) => header,
            Err(damage) => return Ok((None, Step::Damaged(damage))),
        };
        if !header.overlaps(range.0, range.1) {
            return Ok((Some(header), Step::Skipped));
        }
        let left = self.file.metadata()?.len().saturating_sub(self.at);
        if (header.block_bytes() as u64) > left {
            return Ok((None, Step::Damaged(Damage::Cut)));
        }
        data.resize(header.block_bytes(), 0);
        let count = read_up_to(&self.file, &mut data, self.at)?;
        match Block::parse(&data[..count]) {
            Ok(_) => Ok((Some(header), Step::Block(data))),
            Err(damage) => Ok((None, Step::Damaged(damage))),
        }
    }

    /// Moves to the next good block and says how many bytes were skipped.
    ///
    /// At the end of the newest segment nothing is said: that is a block being written, and its samples are in the tail.
    fn skip_damage(&mut self) -> io::Result<Option<u64>> {
        let length = self.file.metadata()?.len().saturating_sub(self.at);
        let mut rest = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let count = read_up_to(&self.file, &mut rest, self.at)?;
        let next = walk(&rest[..count]).find_map(|found| match found {
            Found::Block(at, _) => Some(at),
            Found::Damaged(..) => None,
        });
        if next.is_none() && self.newest {
            return Ok(None);
        }
        let skipped = next.unwrap_or(count) as u64;
        self.at += skipped;
        Ok(Some(skipped))
    }
}

/// Fills as much of `buffer` as the file has.
fn read_up_to(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
