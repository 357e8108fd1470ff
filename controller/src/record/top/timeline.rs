//! A window of samples around the current one.

use std::{collections::VecDeque, sync::Arc};

use record::Sample;

use super::place::Place;

/// Maximum number of samples in the window.
pub(super) const MAX_SAMPLES: usize = 900;

/// Maximum number of processes in all samples of the window, about 200 bytes each: bounds memory on a host with
/// thousands of processes.
pub(super) const MAX_PROCESSES: usize = 400_000;

/// Newest samples kept while the window is elsewhere, so that none is missed on the way back.
const RECENT: usize = 32;

/// Consecutive samples in the order of the record, and a cursor.
///
/// The window grows at both ends and shrinks at the end farther from the cursor.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    window: VecDeque<Arc<Sample>>,
    /// Index of the window's first sample in a count that stays the same as the window grows and shrinks.
    base: i64,
    processes: usize,
    cursor: usize,
    recent: VecDeque<Arc<Sample>>,
    newest: bool,
    oldest: bool,
    live: bool,
}

impl Timeline {
    /// Number of samples in the window.
    pub(crate) fn len(&self) -> usize {
        self.window.len()
    }

    /// The sample at an index in the window.
    pub(crate) fn get(&self, index: usize) -> Option<&Arc<Sample>> {
        self.window.get(index)
    }

    /// The sample before an index, if both are from the same boot, so that rates can be computed.
    pub(crate) fn before(&self, index: usize) -> Option<&Arc<Sample>> {
        let before = self.window.get(index.checked_sub(1)?)?;
        (before.boot_id == self.window.get(index)?.boot_id).then_some(before)
    }

    /// All samples, oldest first.
    pub(crate) fn samples(&self) -> impl ExactSizeIterator<Item = &Arc<Sample>> + DoubleEndedIterator {
        self.window.iter()
    }

    /// The current sample.
    pub(crate) fn current(&self) -> Option<&Arc<Sample>> {
        self.window.get(self.cursor)
    }

    /// The sample before [`Timeline::current`], of the same boot.
    pub(crate) fn previous(&self) -> Option<&Arc<Sample>> {
        self.before(self.cursor)
    }

    /// Up to this many samples before [`Timeline::current`], oldest first; none if the host restarted just before it.
    pub(super) fn past(&self, count: usize) -> impl Iterator<Item = &Arc<Sample>> {
        let count = if self.previous().is_some() { count.min(self.cursor) } else { 0 };
        self.window.iter().skip(self.cursor - count).take(count)
    }

    /// Index of the current sample.
    pub(crate) fn cursor(&self) -> usize {
        self.cursor
    }

    /// Index of the window's first sample in a count that stays the same as the window moves.
    pub(crate) fn base(&self) -> i64 {
        self.base
    }

    /// Whether the cursor stays on the newest sample.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// Whether the window ends with the newest sample of the record.
    pub(crate) fn has_newest(&self) -> bool {
        self.newest
    }

    /// Whether the window starts with the oldest sample of the record.
    pub(crate) fn has_oldest(&self) -> bool {
        self.oldest
    }

    /// Notes that the window starts with the oldest sample.
    pub(crate) fn mark_oldest(&mut self) {
        self.oldest = true;
    }

    /// Notes that the window ends with the newest stored sample, and appends the samples that arrived since.
    pub(crate) fn mark_newest(&mut self) {
        self.newest = true;
        for sample in std::mem::take(&mut self.recent) {
            self.push(sample);
        }
    }

    /// Takes a live sample. While the window is elsewhere, only the last few are remembered.
    pub(crate) fn push(&mut self, sample: Arc<Sample>) {
        self.recent.push_back(Arc::clone(&sample));
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        if self.newest {
            self.append(vec![sample]);
        }
    }

    /// Replaces all samples and moves the cursor to the first.
    pub(crate) fn replace(&mut self, samples: Vec<Arc<Sample>>) {
        self.base += self.window.len() as i64;
        self.window = samples.into();
        self.processes = self.window.iter().map(|sample| sample.processes.len()).sum();
        (self.cursor, self.newest, self.oldest, self.live) = (0, false, false, false);
        self.trim();
    }

    /// Adds older samples; they may overlap the window. Returns how many are new.
    pub(crate) fn prepend(&mut self, mut older: Vec<Arc<Sample>>) -> usize {
        if let Some(first) = self.window.front() {
            let first = Place::of(first);
            let known = |sample: &Arc<Sample>| first.is_not_after(sample);
            older.truncate(older.iter().position(known).unwrap_or(older.len()));
        }
        let count = older.len();
        for sample in older.into_iter().rev() {
            self.processes += sample.processes.len();
            self.window.push_front(sample);
        }
        self.base -= count as i64;
        self.cursor += count;
        self.trim();
        count
    }

    /// Adds newer samples; they may overlap the window. Returns how many are new.
    pub(crate) fn append(&mut self, newer: Vec<Arc<Sample>>) -> usize {
        let last = self.window.back().map(|last| Place::of(last));
        let known = |sample: &Arc<Sample>| {
            last.is_some_and(|last| last == Place::of(sample) || last.is_after(sample))
        };
        let start = newer.iter().rposition(known).map_or(0, |index| index + 1);
        let count = newer.len() - start;
        for sample in newer.into_iter().skip(start) {
            self.processes += sample.processes.len();
            self.window.push_back(sample);
        }
        if self.live {
            self.cursor = self.window.len().saturating_sub(1);
        }
        self.trim();
        count
    }

    /// Drops samples at the end farther from the cursor until the window is within its bounds.
    fn trim(&mut self) {
        while self.window.len() > 1 && (self.window.len() > MAX_SAMPLES || self.processes > MAX_PROCESSES) {
            let dropped = if self.cursor > self.window.len() / 2 {
                (self.cursor, self.base, self.oldest) = (self.cursor - 1, self.base + 1, false);
                self.window.pop_front()
            } else {
                self.newest = false;
                self.window.pop_back()
            };
            self.processes -= dropped.map_or(0, |sample| sample.processes.len());
        }
        self.cursor = self.cursor.min(self.window.len().saturating_sub(1));
    }

    /// Moves the cursor to an index and stops following.
    pub(crate) fn look_at(&mut self, index: usize) {
        self.live = false;
        self.cursor = index.min(self.window.len().saturating_sub(1));
    }

    /// Moves the cursor to the newest sample and follows new ones.
    pub(crate) fn go_live(&mut self) {
        self.look_at(usize::MAX);
        self.live = true;
    }

    /// Index of the last sample at or before a wall time; `None` if it is not in the window.
    pub(crate) fn place_at(&self, wall_ms: i64) -> Option<usize> {
        let index = self.window.iter().rposition(|sample| sample.wall_ms <= wall_ms)?;
        (index + 1 < self.window.len() || self.newest || self.window[index].wall_ms == wall_ms)
            .then_some(index)
    }

    /// Index of the sample this many ms after the current one, or before it, by the boot clock, which does not step;
    /// `None` if it is not in the window or the host restarted in between.
    pub(crate) fn place_away(&self, by_ms: i64) -> Option<usize> {
        let current = self.current()?;
        let target_ns = current.boottime_ns.checked_add_signed(by_ms.saturating_mul(1_000_000))?;
        // Allow half an interval: samples are not exactly one interval apart.
        let target_ns = target_ns.saturating_add(u64::from(current.interval_ms) * 500_000);
        let same_boot = |sample: &Arc<Sample>| sample.boot_id == current.boot_id;
        let at = |sample: &Arc<Sample>| same_boot(sample) && sample.boottime_ns <= target_ns;
        let index = self.window.iter().rposition(at)?;
        self.window.get(index + 1).is_some_and(same_boot).then_some(index)
    }

    /// Index of the first sample at or after a wall time.
    pub(crate) fn place_from(&self, wall_ms: i64) -> Option<usize> {
        self.window.iter().position(|sample| sample.wall_ms >= wall_ms)
    }
}
