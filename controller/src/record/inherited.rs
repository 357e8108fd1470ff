//! Bytes that a process moved, and those that the kernel adds to its counters when it waits for a child that has ended:
//! what that child had moved, and the children of that (wait_task_zombie in kernel/exit.c). Without taking them off,
//! init would seem to have read and written what all others did.

use std::{cmp::Reverse, collections::BTreeMap};

use record::{Exit, Identity, Sample};

/// Samples in which what a child left may still be on its way: its parent's counters are read in turn where they come from
/// /proc, and nobody may have waited for the child yet.
const PATIENCE: u32 = 100;

/// Bytes read from and written to storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bytes {
    pub(super) read: u64,
    pub(super) written: u64,
}

impl Bytes {
    /// Of a process that has ended: its own.
    pub(super) fn of(exit: &Exit) -> Self {
        Self { read: exit.read_bytes, written: exit.written_bytes }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            read: self.read.saturating_add(other.read),
            written: self.written.saturating_add(other.written),
        }
    }

    /// Without those of another; never less than none.
    pub(super) fn without(self, other: Self) -> Self {
        Self {
            read: self.read.saturating_sub(other.read),
            written: self.written.saturating_sub(other.written),
        }
    }

    /// The larger of each.
    pub(super) fn at_least(self, other: Self) -> Self {
        Self { read: self.read.max(other.read), written: self.written.max(other.written) }
    }
}

/// A process that has ended, and what its counters said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) identity: Identity,
    pub(super) parent: u32,
    pub(super) bytes: Bytes,
}

/// What processes that ended leave to the parents that outlive them, by the parents' pids.
pub(super) fn by_parent(mut ended: Vec<Ended>) -> BTreeMap<u32, Bytes> {
    // Children began after their parents, so that a parent that ended too passes on what it got.
    ended.sort_unstable_by_key(|process| Reverse((process.identity.started_ns, process.identity.pid)));
    let mut left = BTreeMap::<u32, Bytes>::new();
    for Ended { identity, parent, bytes } in ended {
        let got = left.remove(&identity.pid).unwrap_or_default();
        let sum = left.entry(parent).or_default();
        *sum = sum.plus(bytes).plus(got);
    }
    left.retain(|_, bytes| *bytes != Bytes::default());
    left
}

/// What parents will have inherited, sample by sample.
#[derive(Clone, Debug, Default)]
pub(super) struct Inherited {
    /// What is not in their counters yet, and for how many samples it is still waited for.
    owed: BTreeMap<u32, (Bytes, u32)>,
    /// Processes that have ended and are still there, as zombies.
    dying: BTreeMap<Identity, Ended>,
}

impl Inherited {
    /// What is left with one more sample, of which the processes `gone` are not any more.
    pub(super) fn after(&self, gone: impl Iterator<Item = Ended>, sample: &Sample) -> Self {
        let mut next = self.clone();
        if sample.exits.is_empty() && self.dying.is_empty() {
            next.add(gone.collect());
            return next;
        }
        for exit in &sample.exits {
            let Exit { identity, parent, .. } = *exit;
            next.dying.insert(identity, Ended { identity, parent, bytes: Bytes::of(exit) });
        }
        let mut ended: BTreeMap<Identity, Ended> = gone.map(|process| (process.identity, process)).collect();
        let lives = |identity: &Identity| {
            sample.processes.binary_search_by_key(identity, |process| process.identity).is_ok()
        };
        for (identity, told) in next.dying.extract_if(.., |identity, _| !lives(identity)) {
            let known = ended.entry(identity).or_insert(told);
            (known.parent, known.bytes) = (told.parent, known.bytes.at_least(told.bytes));
        }
        next.add(ended.into_values().collect());
        next
    }

    fn add(&mut self, mut ended: Vec<Ended>) {
        for process in &mut ended {
            let got = self.owed.remove(&process.identity.pid).unwrap_or_default().0;
            process.bytes = process.bytes.plus(got);
        }
        for (parent, bytes) in by_parent(ended) {
            let (sum, patience) = self.owed.entry(parent).or_default();
            (*sum, *patience) = (sum.plus(bytes), PATIENCE);
        }
    }

    /// What of the growth of a process's counters it has moved itself.
    pub(super) fn own(&self, pid: u32, grown: Bytes) -> Bytes {
        self.owed.get(&pid).map_or(grown, |(bytes, _)| grown.without(*bytes))
    }

    /// Takes off what has come to be in the counters by now.
    pub(super) fn settle(&mut self, grown: impl Fn(u32) -> Option<Bytes>) {
        self.owed.retain(|pid, (bytes, patience)| {
            *bytes = bytes.without(grown(*pid).unwrap_or_default());
            *patience -= 1;
            *patience > 0 && *bytes != Bytes::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(pid: u32, parent: u32, read: u64) -> Ended {
        Ended {
            identity: Identity { pid, started_ns: pid.into() },
            parent,
            bytes: Bytes { read, written: 0 },
        }
    }

    #[test]
    fn what_a_child_moved_is_passed_on_to_who_lives() {
        let left = by_parent(vec![ended(7, 1, 10), ended(9, 7, 100), ended(8, 7, 1_000), ended(5, 3, 0)]);
        assert_eq!(left, BTreeMap::from([(1, Bytes { read: 1_110, written: 0 })]));
    }

    #[test]
    fn it_is_taken_off_once_whenever_it_comes() {
        let sample = Sample::default();
        let mut inherited = Inherited::default().after([ended(9, 1, 100)].into_iter(), &sample);
        let grown = |read| Bytes { read, written: 5 };
        assert_eq!(inherited.own(1, grown(30)), grown(0));
        inherited.settle(|_| Some(grown(30)));
        let mut inherited = inherited.after([].into_iter(), &sample);
        assert_eq!(inherited.own(1, grown(75)), grown(5), "70 were the child's");
        inherited.settle(|_| Some(grown(75)));
        assert_eq!(inherited.own(1, grown(30)), grown(30));
    }
}
