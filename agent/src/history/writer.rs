//! Writing the record: append to the tail, sync, and now and then turn the tail into a block.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    os::unix::fs::{DirBuilderExt, FileExt},
    path::{Path, PathBuf},
};

use proto::history::{BootId, Builder, Encoder, MAX_BODY_BYTES, Sample, tail};

use super::{
    Error, Policy, TAIL, lock, retention,
    retention::Extent,
    segment::{self, Segment},
    while_trying,
};

/// The one writer of a record. Dropping it loses nothing: every appended sample is on disk.
#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    policy: Policy,
    /// Held as long as this writer lives.
    _lock: File,
    segments: Vec<Segment>,
    tail: Option<Tail>,
    builder: Builder,
    encoder: Encoder,
    record: Vec<u8>,
    frame: Vec<u8>,
}

#[derive(Debug)]
struct Tail {
    file: File,
    bytes: u64,
}

impl Writer {
    /// Opens or creates the record and repairs what a crash left. Damage never keeps it from opening; what was lost
    /// is returned in sentences.
    pub fn open(
        directory: &Path,
        boot_id: BootId,
        now_ms: i64,
        policy: Policy,
    ) -> Result<(Self, Vec<String>), Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(while_trying("create", directory))?;
        let lock = lock::take(directory)?;
        let segments = segment::list(directory).map_err(while_trying("list", directory))?;
        let mut writer = Self {
            directory: directory.to_path_buf(),
            policy,
            _lock: lock,
            segments,
            tail: None,
            builder: Builder::new(boot_id, 1),
            encoder: Encoder::default(),
            record: Vec::new(),
            frame: Vec::new(),
        };
        let mut lost = Vec::new();
        let next_sequence = writer.repair_newest_segment(&mut lost);
        let next_sequence = writer.recover_tail(next_sequence, now_ms, &mut lost);
        writer.builder = Builder::new(boot_id, next_sequence);
        writer.shed(0, now_ms);
        Ok((writer, lost))
    }

    /// Stores one sample: when this returns, it is on disk. After an error the sample is lost and the next one
    /// may be stored all the same.
    pub fn append(&mut self, sample: &Sample) -> Result<(), Error> {
        self.record.clear();
        self.encoder.encode(sample, &mut self.record);
        if let Err(error) = self.append_record() {
            self.encoder.restart();
            return Err(error);
        }
        let full = self.builder.records() >= self.policy.block_samples
            || self.builder.raw_bytes() >= self.policy.block_bytes;
        if full { self.compact(sample.wall_ms) } else { Ok(()) }
    }

    fn append_record(&mut self) -> Result<(), Error> {
        if self.record.len() + self.builder.raw_bytes() > MAX_BODY_BYTES {
            return Err(Error::TooLarge(self.record.len()));
        }
        self.frame.clear();
        tail::write_frame(&self.record, &mut self.frame);
        self.shedding(Self::append_frame)?;
        self.builder.push(&self.record).map_err(|_| Error::TooLarge(self.record.len()))
    }

    /// Tries `write` until it succeeds, the disk is not what it fails for, or there is nothing left to shed.
    fn shedding(&mut self, write: impl Fn(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        loop {
            match write(self) {
                Err(error) if error.is_disk_full() && self.segments.len() > 1 => self.shed_oldest(1),
                result => return result,
            }
        }
    }

    fn append_frame(&mut self) -> Result<(), Error> {
        let path = self.directory.join(TAIL);
        let mut tail = match self.tail.take() {
            Some(tail) => tail,
            None => self.create_tail()?,
        };
        let written = tail.file.write_all_at(&self.frame, tail.bytes).and_then(|()| tail.file.sync_data());
        match written {
            Ok(()) => tail.bytes += self.frame.len() as u64,
            // What was written in part would hide what comes after it.
            Err(_) => tail.file.set_len(tail.bytes).map_err(while_trying("shorten", &path))?,
        }
        self.tail = Some(tail);
        written.map_err(while_trying("append to", &path))
    }

    /// Puts a new, empty tail in the old one's place. The old one must be in a segment by now.
    fn create_tail(&self) -> Result<Tail, Error> {
        let header =
            tail::Header { boot_id: self.builder.boot_id(), first_sequence: self.builder.first_sequence() }
                .write();
        let fresh = self.directory.join("tail.new");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&fresh);
        let file = file.map_err(while_trying("create", &fresh))?;
        file.write_all_at(&header, 0).map_err(while_trying("write", &fresh))?;
        fs::rename(&fresh, self.directory.join(TAIL)).map_err(while_trying("rename", &fresh))?;
        self.sync_directory()?;
        Ok(Tail { file, bytes: header.len() as u64 })
    }

    fn compact(&mut self, now_ms: i64) -> Result<(), Error> {
        let Some(block) = self.builder.seal() else { return Ok(()) };
        let block = block.map_err(while_trying("compress", &self.directory.join(TAIL)))?;
        self.store_block(&block, self.builder.first_sequence(), now_ms)?;
        self.builder.clear();
        self.encoder.restart();
        // The old tail is left in place until the next sample needs a new one.
        self.tail = None;
        Ok(())
    }

    /// Appends a block to the newest segment, or to a new one, within the bounds.
    fn store_block(&mut self, block: &[u8], first_sequence: u64, now_ms: i64) -> Result<(), Error> {
        let room = |segment: &Segment| segment.extent.bytes + block.len() as u64 <= self.policy.segment_bytes;
        if !self.segments.last().is_some_and(room) {
            let path = segment::path(&self.directory, first_sequence);
            self.segments.push(Segment { path, extent: Extent { bytes: 0, last_wall_ms: now_ms } });
        }
        self.shed(block.len() as u64, now_ms);
        self.shedding(|writer| writer.append_block(block, now_ms))
    }

    fn append_block(&mut self, block: &[u8], now_ms: i64) -> Result<(), Error> {
        let Some(segment) = self.segments.last_mut() else { return Ok(()) };
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&segment.path);
        let file = file.map_err(while_trying("open", &segment.path))?;
        let written = file.write_all_at(block, segment.extent.bytes).and_then(|()| file.sync_data());
        if let Err(error) = written {
            file.set_len(segment.extent.bytes).map_err(while_trying("shorten", &segment.path))?;
            return Err(while_trying("append to", &segment.path)(error));
        }
        segment.extent.bytes += block.len() as u64;
        segment.extent.last_wall_ms = now_ms;
        self.sync_directory()
    }

    /// Sheds what the policy says, so that `incoming` more bytes and the longest tail fit.
    fn shed(&mut self, incoming: u64, now_ms: i64) {
        let extents: Vec<_> = self.segments.iter().map(|segment| segment.extent).collect();
        let incoming = incoming + self.policy.block_bytes as u64;
        self.shed_oldest(retention::plan(&extents, incoming, now_ms, &self.policy));
    }

    fn shed_oldest(&mut self, count: usize) {
        for segment in self.segments.drain(..count) {
            // A file that cannot be removed is in nobody's way but the disk's; it is tried again at the next start.
            let _ = fs::remove_file(&segment.path);
        }
    }

    /// Cuts what a crash left at the end of the newest segment; returns the number that the next sample must have.
    fn repair_newest_segment(&mut self, lost: &mut Vec<String>) -> u64 {
        let Some(newest) = self.segments.last_mut() else { return 1 };
        let named = segment::named_sequence(&newest.path).unwrap_or(1);
        let survey = match fs::read(&newest.path) {
            Ok(bytes) => segment::survey(&bytes),
            Err(error) => {
                lost.push(format!("{} cannot be read: {error}", newest.path.display()));
                return named;
            }
        };
        // An unfinished block is still in the tail, and damage could not be told from it: nothing is lost by cutting.
        if !survey.foreign && survey.good_bytes < newest.extent.bytes {
            let file = OpenOptions::new().write(true).open(&newest.path);
            match file.and_then(|file| file.set_len(survey.good_bytes)) {
                Ok(()) => newest.extent.bytes = survey.good_bytes,
                Err(error) => lost.push(format!("{} cannot be repaired: {error}", newest.path.display())),
            }
        }
        survey.last_sequence.map_or(named, |last| last.saturating_add(1))
    }

    /// Turns the tail of the recorder before this one into a block; returns the number of the next sample.
    fn recover_tail(&mut self, next_sequence: u64, now_ms: i64, lost: &mut Vec<String>) -> u64 {
        let path = self.directory.join(TAIL);
        let Ok(bytes) = fs::read(&path) else { return next_sequence };
        let scan = match tail::scan(&bytes) {
            Ok(scan) => scan,
            Err(damage) => {
                lost.push(format!("the newest samples cannot be read: {damage}; kept as tail.damaged"));
                let _ = fs::rename(&path, self.directory.join("tail.damaged"));
                return next_sequence;
            }
        };
        if let Some(damage) = scan.damage {
            let count = bytes.len() - scan.good_bytes;
            lost.push(format!("the last {count} bytes of the newest samples cannot be read: {damage}"));
        }
        if scan.builder.first_sequence() < next_sequence {
            return next_sequence;
        }
        if let Some(Ok(block)) = scan.builder.seal()
            && let Err(error) = self.store_block(&block, scan.builder.first_sequence(), now_ms)
        {
            lost.push(format!("the newest {} samples cannot be kept: {error}", scan.builder.records()));
        }
        scan.builder.next_sequence()
    }

    fn sync_directory(&self) -> Result<(), Error> {
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(while_trying("sync", &self.directory))
    }
}
