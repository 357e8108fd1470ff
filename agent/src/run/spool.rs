//! The event file of a run: written only by its supervisor, read by everyone else while it grows.
//!
//! ```text
//! file  = "MAGPEV1\n" frame*
//! frame = length: u32 LE │ crc32c(payload): u32 LE │ payload: pb::Event without next_offset
//! ```
//!
//! Offsets given to callers are byte offsets of frame boundaries; 0 is the beginning. Each frame is written by one
//! `write`, so a reader sees at most one incomplete frame, at the end. This is normal: the reader stops before it,
//! and continues there when the frame is complete.
//!
//! If there is no space for a frame, the event is lost and the partial frame is truncated, so that the next frame
//! follows the last complete one. Once there is space again, a warning reports the loss.

use std::{
    fs::File,
    io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::Path,
};

use prost::Message;
use proto::{
    pb::{self, event::What},
    units::size,
};

const MAGIC: &[u8; 8] = b"MAGPEV1\n";
const HEADER: usize = 8;
/// Maximum length of a frame, so that a damaged length cannot make a reader allocate too much.
const MAX_FRAME: usize = 4 << 20;

/// How much a run may write before its output and log are cut off, in bytes.
pub const DEFAULT_LIMIT: u64 = 64 << 20;
/// Output and log are cut off below their limit if the file is longer than this multiple of the limit plus
/// [`DEFAULT_LIMIT`]: when a program writes byte by byte, the frames are much larger than its output.
const FRAMED: u64 = 4;

/// The writer; a run has only one.
#[derive(Debug)]
pub struct Writer {
    file: File,
    /// Length of the file.
    written: u64,
    /// Bytes of output and log that were kept.
    kept: u64,
    limit: u64,
    dropped: u64,
    lost: u64,
}

impl Writer {
    /// Creates the spool of a new run. `limit` is the number of bytes of output and log to keep, stdout, stderr and log
    /// together; states, resources and the summary always fit.
    ///
    /// # Errors
    /// If the file exists already or cannot be written.
    pub fn create(path: &Path, limit: u64) -> io::Result<Self> {
        let file = File::create_new(path)?;
        file.write_all_at(MAGIC, 0)?;
        Ok(Self { file, written: MAGIC.len() as u64, kept: 0, limit, dropped: 0, lost: 0 })
    }

    /// Appends one event and makes it visible to readers, or drops it if there is no space. Output and log are cut
    /// exactly at the limit.
    ///
    /// # Errors
    /// If the write fails for another reason than missing space.
    pub fn append(&mut self, time_unix_ms: i64, what: What) -> io::Result<()> {
        match what {
            What::Output(_) | What::Log(_) => self.write_cut(time_unix_ms, what),
            _ => self.write(time_unix_ms, what),
        }
    }

    /// Appends a warning from Magpie itself, which always fits.
    ///
    /// # Errors
    /// If the write fails for another reason than missing space.
    pub fn warn(&mut self, time_unix_ms: i64, message: String) -> io::Result<()> {
        self.write(time_unix_ms, warning(message))
    }

    /// Number of bytes of output and log that were dropped because of the limit.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The limit, as text.
    pub fn limit(&self) -> String {
        size(self.limit)
    }

    /// Makes all appended events durable.
    ///
    /// # Errors
    /// If the sync fails.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Writes as much of output or log as the limit allows. Nothing is kept after the first loss: what is kept is the
    /// beginning, without holes.
    fn write_cut(&mut self, time_unix_ms: i64, mut what: What) -> io::Result<()> {
        let is_whole = self.dropped == 0;
        let (kept, dropped) = cut(&mut what, self.room());
        self.kept += kept;
        self.dropped += dropped;
        if is_whole && (kept > 0 || dropped == 0) {
            self.write(time_unix_ms, what)?;
        }
        if is_whole && dropped > 0 {
            let sentence =
                format!("the run wrote more than {}; dropping the rest of its output", self.limit());
            self.warn(time_unix_ms, sentence)?;
        }
        Ok(())
    }

    /// How many more bytes of output and log to keep. Lowers the limit to what was kept if the file is too long.
    fn room(&mut self) -> u64 {
        if self.dropped > 0 {
            return 0;
        }
        if self.written > self.limit.saturating_mul(FRAMED).saturating_add(DEFAULT_LIMIT) {
            self.limit = self.kept;
        }
        self.limit - self.kept
    }

    fn write(&mut self, time_unix_ms: i64, what: What) -> io::Result<()> {
        match self.tell_loss(time_unix_ms).and_then(|()| self.write_frame(time_unix_ms, what)) {
            Err(error) if is_want_of_room(&error) => {
                self.lost += 1;
                Ok(())
            }
            written => written,
        }
    }

    fn tell_loss(&mut self, time_unix_ms: i64) -> io::Result<()> {
        if self.lost > 0 {
            let sentence = format!("{} events were lost here: the disk was full", self.lost);
            self.write_frame(time_unix_ms, warning(sentence))?;
            self.lost = 0;
        }
        Ok(())
    }

    fn write_frame(&mut self, time_unix_ms: i64, what: What) -> io::Result<()> {
        let payload = pb::Event { next_offset: 0, time_unix_ms, what: Some(what) }.encode_to_vec();
        if payload.len() > MAX_FRAME {
            let sentence = format!("an event of {} bytes was dropped: it is too large", payload.len());
            return self.write_frame(time_unix_ms, warning(sentence));
        }
        let mut frame = Vec::with_capacity(HEADER + payload.len());
        frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        frame.extend_from_slice(&crc32c::crc32c(&payload).to_le_bytes());
        frame.extend_from_slice(&payload);
        if let Err(error) = self.file.write_all_at(&frame, self.written) {
            self.file.set_len(self.written)?;
            return Err(error);
        }
        self.written += frame.len() as u64;
        Ok(())
    }
}

/// Cuts output or a log message, this one between two characters, to `room` bytes; returns how many bytes are kept and
/// dropped.
fn cut(what: &mut What, room: u64) -> (u64, u64) {
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let (before, after) = match what {
        What::Output(pb::Output { data, .. }) => {
            let before = data.len();
            data.truncate(room);
            (before, data.len())
        }
        What::Log(pb::Log { message, .. }) => {
            let before = message.len();
            message.truncate(message.floor_char_boundary(room));
            (before, message.len())
        }
        _ => (0, 0),
    };
    (after as u64, (before - after) as u64)
}

/// A warning from Magpie itself, as an event.
fn warning(message: String) -> What {
    What::Log(pb::Log { level: "warning".into(), message, source: "magpie".into(), ..pb::Log::default() })
}

/// Whether the disk, the quota or this process's limit on file sizes is exhausted.
fn is_want_of_room(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// A reader; any number may exist at any time.
#[derive(Debug)]
pub struct Reader {
    file: BufReader<File>,
    offset: u64,
}

impl Reader {
    /// Opens a spool at the offset of an earlier event, or at 0.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(path: &Path, offset: u64) -> io::Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let offset = offset.max(MAGIC.len() as u64);
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { file, offset })
    }

    /// The offset of the event that [`Reader::next`] returns next.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next complete event; `None` at the end of the file or at an incomplete or damaged frame: try again later.
    ///
    /// # Errors
    /// If the disk fails.
    #[expect(clippy::should_implement_trait, reason = "None is not the end: the file may grow")]
    pub fn next(&mut self) -> io::Result<Option<pb::Event>> {
        let payload = self.payload()?;
        let event = payload.as_deref().and_then(|payload| pb::Event::decode(payload).ok());
        let Some(mut event) = event else {
            self.file.seek(SeekFrom::Start(self.offset))?;
            return Ok(None);
        };
        self.offset += (HEADER + payload.map_or(0, |payload| payload.len())) as u64;
        event.next_offset = self.offset;
        Ok(Some(event))
    }

    fn payload(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut header = [0; HEADER];
        if !fill(&mut self.file, &mut header)? {
            return Ok(None);
        }
        let [a, b, c, d, e, f, g, h] = header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length == 0 || length > MAX_FRAME {
            return Ok(None);
        }
        let mut payload = vec![0; length];
        let whole = fill(&mut self.file, &mut payload)?;
        let sound = whole && crc32c::crc32c(&payload) == u32::from_le_bytes([e, f, g, h]);
        Ok(sound.then_some(payload))
    }
}

/// Fills the buffer; `false` if the file ended first.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The progress of an active run, according to its spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latest {
    /// The last state in the spool.
    pub state: Option<pb::RunState>,
    /// The resource that was started last.
    pub resource: String,
}

/// Reads the whole spool for the run's progress; empty if there is no spool yet.
///
/// # Errors
/// If the disk fails.
pub fn latest(path: &Path) -> io::Result<Latest> {
    let mut latest = Latest::default();
    let mut reader = match Reader::open(path, 0) {
        Ok(reader) => reader,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(latest),
        Err(error) => return Err(error),
    };
    while let Some(event) = reader.next()? {
        match event.what {
            Some(What::State(state)) => latest.state = pb::RunState::try_from(state).ok(),
            Some(What::Progress(progress)) => latest.resource = progress.resource,
            _ => {}
        }
    }
    Ok(latest)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn output(data: &[u8]) -> What {
        What::Output(pb::Output { fd: 1, data: data.to_vec() })
    }

    fn all(path: &Path, offset: u64) -> Vec<pb::Event> {
        let mut reader = Reader::open(path, offset).unwrap();
        std::iter::from_fn(|| reader.next().unwrap()).collect()
    }

    #[test]
    fn any_event_can_be_resumed_from() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        let mut writer = Writer::create(&path, DEFAULT_LIMIT).unwrap();
        for n in 0..20_u8 {
            writer.append(i64::from(n), output(&vec![n; usize::from(n) * 100])).unwrap();
        }
        let whole = all(&path, 0);
        assert_eq!(whole.len(), 20);
        for (n, event) in whole.iter().enumerate() {
            assert_eq!(all(&path, event.next_offset), whole[n + 1..], "from {}", event.next_offset);
        }
    }

    #[test]
    fn a_spool_cut_at_any_byte_yields_the_whole_events_before_and_goes_on_when_it_grows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        let mut writer = Writer::create(&path, DEFAULT_LIMIT).unwrap();
        for n in 0..5_u8 {
            writer.append(i64::from(n), output(&[n; 7])).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        let whole = all(&path, 0);
        for cut in 0..=bytes.len() {
            let torn = directory.path().join("torn");
            std::fs::write(&torn, &bytes[..cut]).unwrap();
            let mut reader = Reader::open(&torn, 0).unwrap();
            let mut seen: Vec<_> = std::iter::from_fn(|| reader.next().unwrap()).collect();
            let expected = whole.iter().filter(|event| event.next_offset <= cut as u64).count();
            assert_eq!(seen.len(), expected, "cut at {cut}");
            std::fs::OpenOptions::new().append(true).open(&torn).unwrap().write_all(&bytes[cut..]).unwrap();
            seen.extend(std::iter::from_fn(|| reader.next().unwrap()));
            assert_eq!(seen, whole, "cut at {cut}");
        }
    }

    #[test]
    fn output_is_bounded_and_says_so_but_the_end_is_always_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        let mut writer = Writer::create(&path, 1_000).unwrap();
        for _ in 0..10 {
            writer.append(0, output(&[7; 600])).unwrap();
        }
        writer.append(0, What::Summary(pb::Summary::default())).unwrap();
        assert_eq!(writer.dropped(), 5_000);
        let events = all(&path, 0);
        let sizes = events.iter().filter_map(|event| match &event.what {
            Some(What::Output(output)) => Some(output.data.len()),
            _ => None,
        });
        assert_eq!(sizes.collect::<Vec<_>>(), [600, 400]);
        let warnings = events.iter().filter(|event| matches!(event.what, Some(What::Log(_)))).count();
        assert_eq!(warnings, 1);
        assert!(matches!(events.last().unwrap().what, Some(What::Summary(_))));
    }

    #[test]
    fn output_and_log_share_one_limit_and_warnings_of_our_own_always_fit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        let mut writer = Writer::create(&path, 10).unwrap();
        let log = |message: &str| What::Log(pb::Log { message: message.to_owned(), ..pb::Log::default() });
        writer.append(0, output(b"1234567")).unwrap();
        writer.warn(0, "before".to_owned()).unwrap();
        // The third byte that fits is the first half of a character.
        writer.append(0, log("abäcd")).unwrap();
        writer.append(0, output(b"8")).unwrap();
        writer.append(0, log("")).unwrap();
        writer.warn(0, "after".to_owned()).unwrap();
        assert_eq!(writer.dropped(), 5);
        let texts = all(&path, 0).into_iter().filter_map(|event| match event.what? {
            What::Output(output) => String::from_utf8(output.data).ok(),
            What::Log(log) => Some(log.message),
            _ => None,
        });
        let cut = "the run wrote more than 10 B; dropping the rest of its output";
        assert_eq!(texts.collect::<Vec<_>>(), ["1234567", "before", "ab", cut, "after"]);
    }

    #[test]
    fn frames_do_not_fill_the_disk_where_the_output_comes_byte_by_byte() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(&directory.path().join("events"), 1_000).unwrap();
        writer.append(0, output(b"one")).unwrap();
        writer.written = FRAMED * 1_000 + DEFAULT_LIMIT + 1;
        writer.append(0, output(b"four")).unwrap();
        assert_eq!((writer.limit(), writer.dropped()), ("3 B".to_owned(), 4));
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic_and_offsets_never_pass_the_end(bytes: Vec<u8>, offset in 0_u64..200) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("events");
            std::fs::write(&path, &bytes).unwrap();
            for event in all(&path, offset) {
                prop_assert!(event.next_offset <= bytes.len() as u64);
            }
        }

        #[test]
        fn one_flipped_bit_loses_no_event_before_it(flip in 8_usize..150, bit in 0_u8..8) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("events");
            let mut writer = Writer::create(&path, DEFAULT_LIMIT).unwrap();
            for n in 0..6_u8 {
                writer.append(i64::from(n), output(&[n; 20])).unwrap();
            }
            let whole = all(&path, 0);
            let mut bytes = std::fs::read(&path).unwrap();
            prop_assume!(flip < bytes.len());
            bytes[flip] ^= 1 << bit;
            std::fs::write(&path, &bytes).unwrap();
            let before = whole.iter().filter(|event| event.next_offset <= flip as u64).count();
            let seen = all(&path, 0);
            prop_assert_eq!(&seen[..], &whole[..before]);
        }
    }
}
