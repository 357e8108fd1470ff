//! The storage thread: takes records out of a ring and appends them to the history. Only this thread waits for the
//! disk.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use super::ring::Ring;
use record::directory::{self, Writer};

/// Maximum number of waiting records: several minutes at one record a second.
const WAITING: usize = 600;

/// Handle of the storage thread. Dropping it ends the thread after all waiting records are written.
#[derive(Debug)]
pub(super) struct Storage {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    ring: Ring,
    /// Number of records that did not reach the disk.
    dropped: AtomicU64,
    /// A record was lost, so nothing can be stored before the next key.
    wants_key: AtomicBool,
}

impl Storage {
    /// Starts the thread; at most `bytes` bytes of records may wait.
    pub(super) fn start(writer: Writer, bytes: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            ring: Ring::new(bytes, WAITING),
            dropped: AtomicU64::new(0),
            wants_key: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        // Compression needs little stack, and every touched page of it is locked in memory.
        let thread = thread::Builder::new().name("storage".into()).stack_size(256 << 10);
        let thread = thread.spawn(move || write(writer, &theirs))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Number of records so far that did not reach the disk.
    pub(super) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Whether the next record must be a key; asking resets the flag.
    pub(super) fn wants_key(&self) -> bool {
        self.shared.wants_key.swap(false, Ordering::Relaxed)
    }

    /// Queues a record, or drops it if too many are waiting.
    pub(super) fn offer(&self, record: &[u8]) {
        if !self.shared.ring.push(record) {
            self.shared.lose();
        }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.shared.ring.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lose(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.wants_key.store(true, Ordering::Relaxed);
    }
}

fn write(mut writer: Writer, shared: &Shared) {
    let mut record = Vec::new();
    let mut trouble = Trouble::default();
    while shared.ring.pop(&mut record) {
        let appended = writer.append(&record);
        if appended.is_err() {
            shared.lose();
        }
        trouble.note(appended.err());
    }
}

/// Logs once when samples begin to be lost, and once when that ends.
#[derive(Debug, Default)]
struct Trouble {
    sentence: Option<String>,
    lost: u64,
}

impl Trouble {
    fn note(&mut self, error: Option<directory::Error>) {
        match error {
            // A consequence of an error that was already reported.
            Some(directory::Error::NoKey) => self.lost += 1,
            Some(error) => {
                self.lost += 1;
                let sentence = error.to_string();
                if self.sentence.as_ref() != Some(&sentence) {
                    tracing::error!("cannot store a sample: {sentence}");
                    self.sentence = Some(sentence);
                }
            }
            None if self.lost > 0 => {
                tracing::warn!("recording again; lost samples: {}", self.lost);
                *self = Self::default();
            }
            None => {}
        }
    }
}
