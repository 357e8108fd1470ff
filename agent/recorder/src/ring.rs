//! A queue of records between the sampling and the writing thread. Its memory is allocated at the start and holds
//! several minutes of records, so that a hanging disk does not stop sampling.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// A bounded queue of byte strings.
#[derive(Debug)]
pub(super) struct Ring {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug)]
struct Queue {
    bytes: VecDeque<u8>,
    lengths: VecDeque<usize>,
    /// No more records will come.
    closed: bool,
}

impl Ring {
    /// A queue for at most `records` records with `bytes` bytes in total.
    pub(super) fn new(bytes: usize, records: usize) -> Self {
        let queue = Queue {
            bytes: VecDeque::with_capacity(bytes),
            lengths: VecDeque::with_capacity(records),
            closed: false,
        };
        Self { queue: Mutex::new(queue), changed: Condvar::new() }
    }

    /// Adds a record; false if there is no space. An empty ring accepts a record of any length.
    pub(super) fn push(&self, record: &[u8]) -> bool {
        let mut queue = self.lock();
        let room = queue.bytes.len() + record.len() <= queue.bytes.capacity()
            && queue.lengths.len() < queue.lengths.capacity();
        if !room && !queue.lengths.is_empty() {
            return false;
        }
        queue.bytes.extend(record);
        queue.lengths.push_back(record.len());
        drop(queue);
        self.changed.notify_one();
        true
    }

    /// Waits for a record and copies it into `record`; false if the ring is empty and closed.
    pub(super) fn pop(&self, record: &mut Vec<u8>) -> bool {
        let mut queue = self.lock();
        loop {
            if let Some(length) = queue.lengths.pop_front() {
                record.clear();
                record.extend(queue.bytes.drain(..length));
                return true;
            }
            if queue.closed {
                return false;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the reader once the ring is empty.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Ignores poisoning: no code that holds the lock can panic halfway.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn records_come_out_as_they_went_in() {
        let ring = Ring::new(64, 8);
        let sent: Vec<Vec<u8>> = (0..500u16).map(|n| n.to_le_bytes().repeat(usize::from(n % 9))).collect();
        let received = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut all, mut record) = (Vec::new(), Vec::new());
                while ring.pop(&mut record) {
                    all.push(record.clone());
                }
                all
            });
            for record in &sent {
                while !ring.push(record) {
                    thread::yield_now();
                }
            }
            ring.close();
            reader.join().unwrap()
        });
        assert_eq!(received, sent);
    }

    #[test]
    fn oversized_records_are_refused_unless_the_ring_is_empty() {
        let ring = Ring::new(10, 2);
        assert!(ring.push(&[1; 100]), "longer than the ring");
        assert!(!ring.push(&[2]));
        let mut record = Vec::new();
        assert!(ring.pop(&mut record) && record == [1; 100]);
        assert!(ring.push(&[3]) && ring.push(&[4]));
        assert!(!ring.push(&[5]), "too many");
    }
}
