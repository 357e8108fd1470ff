//! Writes the record: appends to a tail, syncs, and turns each finished tail into a block.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    os::unix::fs::{DirBuilderExt, FileExt},
    path::{Path, PathBuf},
};

use crate::{BootId, Builder, Damage, Packer, Prefix, tail};
use nix::fcntl::{FallocateFlags, fallocate};

use super::{
    Error, counted, lock,
    names::{self, TAILS},
    retention::{self, Extent, Policy},
    segment::{self, Listed},
    tails::Tails,
    while_trying,
};

/// The usual unit in which file systems allocate space, in bytes.
const UNIT: u64 = 4_096;

/// Disk space of a file with this length, in bytes.
fn allocated(length: u64) -> u64 {
    length.next_multiple_of(UNIT)
}

/// The one writer of a record. Dropping it loses nothing: every appended record is on disk.
#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    policy: Policy,
    /// Held until the writer is dropped.
    _lock: File,
    segments: Vec<Listed>,
    tails: Tails,
    builder: Builder,
    packer: Packer,
    block: Vec<u8>,
    /// A record was lost: later records are useless until the next key record.
    broken: bool,
}

impl Writer {
    /// Opens or creates the record and repairs it after a crash. Damage is not an error: losses are returned as sentences.
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
            tails: Tails::new(directory, policy.tail_bytes()),
            builder: Builder::new(boot_id, 1),
            packer: Packer::new().map_err(while_trying("prepare compression for", directory))?,
            block: Vec::new(),
            broken: true,
        };
        let mut lost = Vec::new();
        let next_sequence = writer.repair_newest_segment(&mut lost);
        let next_sequence = writer.recover_tails(next_sequence, now_ms, &mut lost);
        writer.builder = Builder::new(boot_id, next_sequence);
        writer.shed_oversized(0);
        Ok((writer, lost))
    }

    /// Stores one record of [`crate::Encoder`]. When this returns, the record is on disk. After an error the record is
    /// lost, and the next record must be a key record: call [`crate::Encoder::restart`].
    pub fn append(&mut self, record: &[u8]) -> Result<(), Error> {
        let prefix = Prefix::parse(record).map_err(Error::Record)?;
        if prefix.key {
            return self.begin_block(record, prefix.wall_ms);
        }
        if self.broken {
            return Err(Error::NoKey);
        }
        // The builder must hold the same records as the tail: push only what is on disk.
        let appended = self.tails.append(record);
        self.broken = appended.is_err();
        appended?;
        self.push(record)
    }

    fn push(&mut self, record: &[u8]) -> Result<(), Error> {
        let pushed = self.builder.push(record);
        self.broken = pushed.is_err();
        pushed.map_err(Error::Record)
    }

    /// Stores a key record, and the block that it ends. The key record is synced first, because compressing and storing the
    /// block takes time.
    fn begin_block(&mut self, record: &[u8], now_ms: i64) -> Result<(), Error> {
        let first_sequence = self.builder.next_sequence();
        let header = tail::Header::new(self.builder.boot_id(), first_sequence);
        // Stays true if the key is not stored; `push` clears it.
        self.broken = true;
        let begun = self.shedding(|writer| writer.tails.begin(header, record));
        // Store the old block even if the new tail failed: only its tail still has it, and that may be overwritten next.
        let stored = self.store_finished(now_ms);
        self.builder.restart(first_sequence);
        begun?;
        self.push(record)?;
        stored
    }

    fn store_finished(&mut self, now_ms: i64) -> Result<(), Error> {
        let builder = std::mem::replace(&mut self.builder, Builder::new(BootId::default(), 0));
        let stored = self.store(&builder, now_ms);
        self.builder = builder;
        stored
    }

    /// Appends the builder's block to the newest segment, or to a new one, within the limits.
    fn store(&mut self, builder: &Builder, now_ms: i64) -> Result<(), Error> {
        self.block.clear();
        builder.seal(&mut self.packer, &mut self.block).map_err(while_trying("compress", &self.directory))?;
        if self.block.is_empty() {
            return Ok(());
        }
        let bytes = self.block.len() as u64;
        let room = |segment: &Listed| segment.extent.bytes + bytes <= self.policy.segment_bytes;
        if !self.segments.last().is_some_and(room) {
            self.finish_segment();
            let path = names::segment_path(&self.directory, builder.first_sequence());
            self.segments.push(Listed { path, extent: Extent { bytes: 0, last_wall_ms: now_ms } });
            self.shed_oldest(retention::aged(&self.on_disk(bytes), now_ms, &self.policy));
        }
        self.shed_oversized(bytes);
        self.shedding(|writer| writer.append_block(now_ms))
    }

    /// Calls `write`, and while the disk is full, deletes the oldest segment and tries again. The newest segment stays.
    fn shedding(&mut self, mut write: impl FnMut(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        loop {
            match write(self) {
                Err(error) if error.is_disk_full() && self.segments.len() > 1 => self.shed_oldest(1),
                result => return result,
            }
        }
    }

    fn append_block(&mut self, now_ms: i64) -> Result<(), Error> {
        let Some(segment) = self.segments.last_mut() else { return Ok(()) };
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&segment.path);
        let file = file.map_err(while_trying("open", &segment.path))?;
        let fresh = segment.extent.bytes == 0;
        if fresh {
            // Reserve space for the whole segment, so that appends to it still succeed when the disk is full. Not every
            // file system supports this: ignore errors.
            let _ =
                fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, self.policy.segment_bytes as i64);
        }
        let written = file.write_all_at(&self.block, segment.extent.bytes).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // Cut off a partial block, so that a retry starts at the right position.
            file.set_len(segment.extent.bytes).map_err(while_trying("shorten", &segment.path))?;
            return Err(while_trying("append to", &segment.path)(error));
        }
        segment.extent.bytes += self.block.len() as u64;
        segment.extent.last_wall_ms = now_ms;
        if fresh { self.sync_directory() } else { Ok(()) }
    }

    /// Frees the reserved space that the newest segment did not use.
    fn finish_segment(&self) {
        let Some(segment) = self.segments.last() else { return };
        if let Ok(file) = OpenOptions::new().write(true).open(&segment.path) {
            let _ = file.set_len(segment.extent.bytes);
        }
    }

    /// Deletes the oldest segments until both tails and `incoming` more bytes in the newest segment fit the policy.
    fn shed_oversized(&mut self, incoming: u64) {
        let tails = TAILS.len() as u64 * allocated(self.policy.tail_bytes());
        self.shed_oldest(retention::oversized(&self.on_disk(incoming), tails, &self.policy));
    }

    /// What each segment takes on the disk, with `incoming` more bytes in the newest one, whose whole size is reserved.
    fn on_disk(&self, incoming: u64) -> Vec<Extent> {
        let mut extents: Vec<_> = self.segments.iter().map(|segment| segment.extent).collect();
        if let Some(newest) = extents.last_mut() {
            newest.bytes = (newest.bytes + incoming).max(self.policy.segment_bytes);
        }
        extents.iter_mut().for_each(|extent| extent.bytes = allocated(extent.bytes));
        extents
    }

    fn shed_oldest(&mut self, count: usize) {
        for segment in self.segments.drain(..count) {
            // A file that cannot be deleted only takes space; the next start lists it again.
            let _ = fs::remove_file(&segment.path);
        }
    }

    /// Cuts off an incomplete block at the end of the newest segment. Returns the number of the next sample.
    fn repair_newest_segment(&mut self, lost: &mut Vec<String>) -> u64 {
        let Some(newest) = self.segments.last_mut() else { return 1 };
        let named = names::first_sequence(&newest.path).unwrap_or(1);
        let survey = match segment::survey(&newest.path) {
            Ok(survey) => survey,
            Err(error) => {
                lost.push(format!("cannot read {}: {error}", newest.path.display()));
                return named;
            }
        };
        // The samples of an incomplete block are still in a tail, and damage looks the same: nothing is lost by cutting.
        if !survey.foreign && survey.good_bytes < newest.extent.bytes {
            let count = newest.extent.bytes - survey.good_bytes;
            let bytes = counted(count, "byte");
            lost.push(format!("the last {bytes} of {} are not a complete block", newest.path.display()));
            let file = OpenOptions::new().write(true).open(&newest.path);
            match file.and_then(|file| file.set_len(survey.good_bytes)) {
                Ok(()) => newest.extent.bytes = survey.good_bytes,
                Err(error) => lost.push(format!("cannot repair {}: {error}", newest.path.display())),
            }
        }
        survey.last_sequence.map_or(named, |last| last.saturating_add(1))
    }

    /// Turns the tails of the previous recorder into blocks. Returns the number of the next sample.
    fn recover_tails(&mut self, mut next_sequence: u64, now_ms: i64, lost: &mut Vec<String>) -> u64 {
        let mut scans = Vec::new();
        for path in TAILS.map(|name| self.directory.join(name)) {
            match fs::read(&path).map(|bytes| (tail::scan(&bytes), bytes.len())) {
                Ok((Ok(Some(scan)), length)) => scans.push((scan, length)),
                // The previous recorder ended while it was creating the file.
                Ok((Ok(None), _)) | Ok((Err(Damage::Cut), 0)) | Err(_) => {}
                Ok((Err(damage), _)) => {
                    lost.push(format!("cannot read {}: {damage}; kept as .damaged", path.display()));
                    let _ = fs::rename(&path, path.with_extension("damaged"));
                }
            }
        }
        scans.sort_by_key(|(scan, _)| scan.builder.first_sequence());
        for (scan, length) in scans {
            let tail::Scan { builder, good_bytes, damage, .. } = scan;
            // This tail is already in a segment.
            if builder.first_sequence() < next_sequence {
                continue;
            }
            if let Some(damage) = damage {
                let bytes = counted((length - good_bytes) as u64, "byte");
                lost.push(format!("the newest samples end in {bytes} of unreadable data: {damage}"));
            }
            if let Err(error) = self.store(&builder, now_ms) {
                let samples = counted(builder.records().into(), "sample");
                lost.push(format!("cannot keep the newest {samples}: {error}"));
            }
            next_sequence = builder.next_sequence();
        }
        next_sequence
    }

    fn sync_directory(&self) -> Result<(), Error> {
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(while_trying("sync", &self.directory))
    }
}
