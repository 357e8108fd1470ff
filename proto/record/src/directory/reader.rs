//! Reading the record while it is being written: blocks as they lie on disk, without decoding them.

use std::{
    collections::{HashSet, VecDeque},
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::{Block, Builder, Contents, Damage, Found, HEADER_BYTES, Header, Packer, index, tail, walk};

use super::{
    Error, TAILS,
    segment::{self, Segment},
    while_trying,
};

/// How often a tail is read whose last record seems damaged: it may be in the middle of being written.
const LOOKS: usize = 4;
const PAUSE: Duration = Duration::from_millis(2);

/// A record that someone may be writing to.
#[derive(Clone, Debug)]
pub struct Reader {
    directory: PathBuf,
}

/// Which blocks are wanted.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Blocks with samples from this wall time on, ms since the Unix epoch.
    pub from_ms: i64,
    /// Blocks with samples up to this wall time.
    pub until_ms: i64,
    /// Only blocks in which one of these processes occurs; all if there are none.
    pub pids: HashSet<u32>,
    /// Only blocks with any of this in them; all if there is nothing.
    pub contents: Contents,
}

impl Filter {
    /// Everything between two wall times, both included.
    pub fn between(from_ms: i64, until_ms: i64) -> Self {
        Self { from_ms, until_ms, pids: HashSet::new(), contents: Contents::default() }
    }

    /// Whether a block may be wanted, by its header alone.
    fn wants(&self, header: &Header) -> bool {
        let contents = self.contents == Contents::default() || header.contents.intersects(self.contents);
        contents && header.overlaps(self.from_ms, self.until_ms)
    }

    /// Whether a block may be wanted, by its index. One that cannot be read is.
    fn wants_processes(&self, header: &Header, bytes: &[u8]) -> bool {
        let mut found = self.pids.is_empty();
        let read = index(header, bytes, |identity| found |= self.pids.contains(&identity.pid));
        found || read.is_err()
    }
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

    /// The blocks in which some sample may lie between two wall times, oldest first, the tails last.
    pub fn blocks(&self, from_ms: i64, until_ms: i64) -> Result<Blocks, Error> {
        self.filtered(Filter::between(from_ms, until_ms))
    }

    /// The blocks that are wanted, oldest first, the tails last.
    pub fn filtered(&self, filter: Filter) -> Result<Blocks, Error> {
        // The tails first: what becomes a block meanwhile is then seen twice, and told by its number, not missed.
        let mut lost = Vec::new();
        let tails = read_tails(&self.directory, &mut lost)?;
        let segments = segment::list(&self.directory).map_err(while_trying("list", &self.directory))?;
        Ok(Blocks {
            directory: self.directory.clone(),
            filter,
            segments: segments.into(),
            open: None,
            tails: tails.into_iter().map(|samples| Tail::Samples(Box::new(samples))).collect(),
            last_sequence: None,
            lost: Vec::new(),
            tails_lost: lost,
        })
    }

    /// What every block says about itself, oldest first, and what was lost. Bodies are not read; what is in a tail has no
    /// lengths and checksums.
    pub fn headers(&self) -> Result<(Vec<Header>, Vec<String>), Error> {
        let mut headers = Vec::new();
        let mut blocks = self.blocks(i64::MAX, i64::MIN)?;
        while blocks.open_next()? {
            while blocks.open.is_some() {
                blocks.step(&mut |header| headers.push(*header))?;
            }
        }
        let tails = blocks.tails.iter().map(Tail::header);
        headers.extend(tails.filter(|header| Some(header.first_sequence) > blocks.last_sequence));
        blocks.lost.append(&mut blocks.tails_lost);
        Ok((headers, blocks.lost))
    }
}

/// What the tails hold, oldest first.
fn read_tails(directory: &Path, lost: &mut Vec<String>) -> Result<VecDeque<Builder>, Error> {
    let mut scans = Vec::new();
    for path in TAILS.map(|name| directory.join(name)) {
        match scan_tail(&path).map_err(while_trying("read", &path))? {
            Ok(Some(scan)) => scans.push(scan),
            Ok(None) => {}
            Err(damage) => lost.push(format!("some of the newest samples cannot be read: {damage}")),
        }
    }
    scans.sort_by_key(|scan| scan.builder.first_sequence());
    let mut tails = VecDeque::new();
    for scan in scans {
        if let Some(damage) = scan.damage {
            lost.push(format!("the newest samples end in what cannot be read: {damage}"));
        }
        tails.extend((scan.builder.records() > 0).then_some(scan.builder));
    }
    Ok(tails)
}

/// What a tail held when reading began.
#[derive(Debug)]
enum Tail {
    Samples(Box<Builder>),
    /// As a block, with what is known of it without parsing.
    Block(Header, Vec<u8>),
}

impl Tail {
    fn header(&self) -> &Header {
        match self {
            Self::Samples(samples) => samples.header(),
            Self::Block(header, _) => header,
        }
    }

    fn sealed(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Samples(samples) => {
                let mut block = Vec::new();
                samples.seal(&mut Packer::new()?, &mut block)?;
                Ok(block)
            }
            Self::Block(_, block) => Ok(block),
        }
    }
}

/// Reads one tail; nothing if it is not there or was never written to.
pub(super) fn scan_tail(path: &Path) -> io::Result<Result<Option<tail::Scan>, Damage>> {
    let mut looks = 1;
    loop {
        let bytes = match fs::read(path) {
            Ok(bytes) if bytes.is_empty() => return Ok(Ok(None)),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(None)),
            Err(error) => return Err(error),
        };
        let scan = tail::scan(&bytes);
        let whole = scan.as_ref().is_ok_and(|scan| scan.as_ref().is_none_or(|scan| scan.damage.is_none()));
        if whole || looks == LOOKS {
            return Ok(scan);
        }
        looks += 1;
        thread::sleep(PAUSE);
    }
}

/// An iterator over blocks; each segment is opened when it is its turn.
#[derive(Debug)]
pub struct Blocks {
    directory: PathBuf,
    filter: Filter,
    segments: VecDeque<Segment>,
    open: Option<OpenSegment>,
    tails: VecDeque<Tail>,
    last_sequence: Option<u64>,
    lost: Vec<String>,
    tails_lost: Vec<String>,
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
                    Ok(false) => return self.finish().transpose(),
                    Err(error) => return Some(Err(error)),
                }
            }
            match self.step(&mut |_| {}) {
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
    /// Makes blocks of the tails that are wanted now and forgets the others: for who keeps this for long, since samples
    /// take ten times the memory of their block.
    pub fn with_sealed_tails(mut self) -> Result<Self, Error> {
        let wanted = std::mem::take(&mut self.tails).into_iter();
        for tail in wanted.filter(|tail| self.filter.wants(tail.header())) {
            let header = *tail.header();
            let block = tail.sealed().map_err(while_trying("read", &self.directory))?;
            self.tails.push_back(Tail::Block(header, block));
        }
        Ok(self)
    }

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
    fn step(&mut self, see: &mut impl FnMut(&Header)) -> Result<Option<StoredBlock>, Error> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let (header, step) = open.look(&self.filter).map_err(while_trying("read", &open.path))?;
        if let Some(header) = header {
            see(&header);
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

    /// After the last segment: the tails, unless they have become blocks, and what was lost last.
    fn finish(&mut self) -> Result<Option<StoredBlock>, Error> {
        while let Some(tail) = self.tails.pop_front() {
            let header = tail.header();
            if Some(header.first_sequence) <= self.last_sequence || !self.filter.wants(header) {
                continue;
            }
            let data = tail.sealed().map_err(while_trying("read", &self.directory))?;
            let Ok(header) = Header::parse(&data) else { continue };
            let index = &data[HEADER_BYTES..][..header.index_bytes as usize];
            if self.filter.wants_processes(&header, index) {
                return Ok(Some(StoredBlock { data, lost: std::mem::take(&mut self.lost) }));
            }
        }
        let mut lost = std::mem::take(&mut self.lost);
        lost.append(&mut self.tails_lost);
        Ok((!lost.is_empty()).then_some(StoredBlock { data: Vec::new(), lost }))
    }
}

impl OpenSegment {
    /// Reads the header at the present place and, if it is wanted, its block.
    fn look(&self, filter: &Filter) -> io::Result<(Option<Header>, Step)> {
        let mut data = vec![0; HEADER_BYTES];
        let count = read_up_to(&self.file, &mut data, self.at)?;
        if count == 0 {
            return Ok((None, Step::End));
        }
        let header = match Header::parse(&data[..count]) {
            Ok(header) => header,
            Err(damage) => return Ok((None, Step::Damaged(damage))),
        };
        let left = self.file.metadata()?.len().saturating_sub(self.at);
        if (header.block_bytes() as u64) > left {
            return Ok((None, Step::Damaged(Damage::Cut)));
        }
        if !filter.wants(&header) {
            return Ok((Some(header), Step::Skipped));
        }
        if !filter.pids.is_empty() {
            data.resize(HEADER_BYTES + header.index_bytes as usize, 0);
            read_up_to(&self.file, &mut data, self.at)?;
            if !filter.wants_processes(&header, &data[HEADER_BYTES..]) {
                return Ok((Some(header), Step::Skipped));
            }
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
    /// At the end of the newest segment nothing is said: that is a block being written, and its samples are in a tail.
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
