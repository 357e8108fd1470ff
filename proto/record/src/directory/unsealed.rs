//! Reads the newest samples, which are in the tails and may not be in a segment yet, and makes blocks of them, so that
//! readers see only blocks.

use std::{fmt::Display, fs, io, path::Path, thread, time::Duration};

use crate::{Builder, Damage, HEADER_BYTES, Header, Packer, tail};

use super::{filter::Filter, names::TAILS};

/// Maximum number of attempts to read a tail with a damaged last record: the recorder may be writing that record.
const LOOKS: usize = 4;
const PAUSE: Duration = Duration::from_millis(2);

/// Contents of one tail. The same samples may also be in a segment; their sequence numbers show that.
#[derive(Debug, Default)]
pub(super) struct Unsealed {
    /// Header of a block with these samples, without lengths and checksums; `None` without samples.
    pub(super) header: Option<Header>,
    /// Sentence about unreadable data after the samples.
    pub(super) lost: Option<String>,
    kept: Kept,
}

#[derive(Debug, Default)]
enum Kept {
    #[default]
    Nothing,
    Samples(Box<Builder>),
    Block(Vec<u8>),
}

/// Contents of a directory's tails, oldest first; unreadable tails last.
///
/// The recorder may switch tails between the two reads, so that they do not belong together. Both are read again until one
/// continues the other or neither changes.
pub(super) fn read(directory: &Path) -> Vec<Unsealed> {
    let mut tails = read_both(directory);
    for _ in 1..LOOKS {
        if is_unbroken(&tails) {
            break;
        }
        let before = numbers(&tails);
        // Free the old samples first: two sets at once would take too much memory.
        tails.clear();
        tails = read_both(directory);
        if numbers(&tails) == before {
            break;
        }
    }
    tails
}

fn read_both(directory: &Path) -> Vec<Unsealed> {
    let mut tails: Vec<_> = TAILS.into_iter().map(|name| read_one(&directory.join(name), name)).collect();
    tails.sort_by_key(|tail| tail.header.map_or(u64::MAX, |header| header.first_sequence));
    tails
}

/// Whether both tails have samples and the second starts where the first ends, or earlier.
fn is_unbroken(tails: &[Unsealed]) -> bool {
    let headers: Vec<_> = tails.iter().filter_map(|tail| tail.header).collect();
    matches!(headers[..], [first, second] if second.first_sequence <= first.last_sequence() + 1)
}

/// Numbers of the first samples.
fn numbers(tails: &[Unsealed]) -> Vec<Option<u64>> {
    tails.iter().map(|tail| tail.header.map(|header| header.first_sequence)).collect()
}

fn read_one(path: &Path, name: &str) -> Unsealed {
    let unreadable = |why: &dyn Display| {
        let lost = format!("{name}, which may hold the newest samples, cannot be read: {why}");
        Unsealed { lost: Some(lost), ..Unsealed::default() }
    };
    match scan(path) {
        Ok(Ok(Some(scan))) => Unsealed::of(name, scan),
        Ok(Ok(None)) => Unsealed::default(),
        Ok(Err(damage)) => unreadable(&damage),
        Err(error) => unreadable(&error),
    }
}

/// Reads one tail; `None` if the file is missing or was never written to.
fn scan(path: &Path) -> io::Result<Result<Option<tail::Scan>, Damage>> {
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

impl Unsealed {
    fn of(name: &str, scan: tail::Scan) -> Self {
        let tail::Scan { builder, good_bytes, damage, .. } = scan;
        let lost = damage.map(|damage| format!("{name} cannot be read from byte {good_bytes} on: {damage}"));
        if builder.records() == 0 {
            return Self { lost, ..Self::default() };
        }
        Self { header: Some(*builder.header()), lost, kept: Kept::Samples(Box::new(builder)) }
    }

    /// Compresses the samples if they are wanted, and drops them otherwise. Keeps the header.
    pub(super) fn seal(&mut self, filter: &Filter) {
        let wanted = self.header.is_some_and(|header| filter.admits(&header));
        self.kept = match std::mem::take(&mut self.kept) {
            Kept::Samples(samples) if wanted => Kept::Block(sealed(&samples)),
            Kept::Block(block) if wanted => Kept::Block(block),
            _ => Kept::Nothing,
        };
    }

    /// The samples as a block, if they are wanted.
    pub(super) fn into_block(self, filter: &Filter) -> Option<Vec<u8>> {
        self.header.filter(|header| filter.admits(header))?;
        let block = match self.kept {
            Kept::Samples(samples) => samples.stored(),
            Kept::Block(block) => block,
            Kept::Nothing => return None,
        };
        let header = Header::parse(&block).ok()?;
        let index = &block[HEADER_BYTES..][..header.index_bytes as usize];
        filter.admits_processes(&header, index).then_some(block)
    }
}

/// The samples as a compressed block, or uncompressed if compression fails (out of memory).
pub(super) fn sealed(samples: &Builder) -> Vec<u8> {
    let mut block = Vec::new();
    match Packer::new().and_then(|mut packer| samples.seal(&mut packer, &mut block)) {
        Ok(()) => block,
        Err(_) => samples.stored(),
    }
}
