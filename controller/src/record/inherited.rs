//! I/O that a process did itself. When a process waits for an exited child, the kernel adds the I/O of that child and
//! its descendants to the parent's counters (wait_task_zombie in kernel/exit.c). It is subtracted here; otherwise init
//! would appear to do the I/O of all other processes. Where exits are not recorded, how much to subtract is unknown:
//! the I/O of processes with children is unknown ([`Parents`]).

use std::{cmp::Reverse, collections::BTreeMap};

use record::{BootId, Exit, Identity, Sample, Sources};

/// How many samples the parent's counters may take to show a child's I/O: from /proc they are read in turn, and the
/// parent may not have waited for the child yet.
const PATIENCE: u32 = 100;

/// For how many samples after its last child a process's counters may still grow by a child's I/O: the child may have
/// been read after its parent, and under memory pressure only every fourth sample reads I/O from /proc.
pub(super) const LATE: u32 = 10;

/// Bytes read from and written to storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bytes {
    pub(super) read: u64,
    pub(super) written: u64,
}

impl Bytes {
    /// Counters, of which unknown ones count as 0.
    pub(super) fn counted(read: Option<u64>, written: Option<u64>) -> Self {
        Self { read: read.unwrap_or(0), written: written.unwrap_or(0) }
    }

    /// The I/O of an exited process.
    pub(super) fn of(exit: &Exit) -> Self {
        Self { read: exit.read_bytes, written: exit.written_bytes }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            read: self.read.saturating_add(other.read),
            written: self.written.saturating_add(other.written),
        }
    }

    /// Subtracts, saturating at 0.
    pub(super) fn without(self, other: Self) -> Self {
        Self {
            read: self.read.saturating_sub(other.read),
            written: self.written.saturating_sub(other.written),
        }
    }

    /// The larger of each value.
    pub(super) fn at_least(self, other: Self) -> Self {
        Self { read: self.read.max(other.read), written: self.written.max(other.written) }
    }
}

/// An exited process with its last counters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) identity: Identity,
    pub(super) parent: u32,
    pub(super) bytes: Bytes,
}

/// I/O that exited processes leave to their surviving parents, by the parents' pids.
pub(super) fn by_parent(mut ended: Vec<Ended>) -> BTreeMap<u32, Bytes> {
    // Children start after their parents: newest first, an exited parent passes on what it inherited.
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

/// I/O that parents inherit, tracked from sample to sample.
#[derive(Clone, Debug, Default)]
pub(super) struct Inherited {
    /// I/O not in the parents' counters yet, and for how many more samples to expect it.
    owed: BTreeMap<u32, (Bytes, u32)>,
    /// Exited processes that are still zombies.
    dying: BTreeMap<Identity, Ended>,
}

impl Inherited {
    /// The state after one more sample, in which the processes `gone` are missing.
    pub(super) fn after(&self, gone: impl Iterator<Item = Ended>, sample: &Sample) -> Self {
        let mut next = self.clone();
        // Without exit events, the last samples of the missing processes are all that is known about them.
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
        // A process still in the sample is a zombie: its parent gets the I/O only when it waits for it.
        for (identity, told) in next.dying.extract_if(.., |identity, _| !lives(identity)) {
            let known = ended.entry(identity).or_insert(told);
            (known.parent, known.bytes) = (told.parent, known.bytes.at_least(told.bytes));
        }
        next.add(ended.into_values().collect());
        next
    }

    fn add(&mut self, mut ended: Vec<Ended>) {
        for process in &mut ended {
            // What its own children still owed it passes to its parent with its own I/O.
            let got = self.owed.remove(&process.identity.pid).unwrap_or_default().0;
            process.bytes = process.bytes.plus(got);
        }
        for (parent, bytes) in by_parent(ended) {
            let (sum, patience) = self.owed.entry(parent).or_default();
            (*sum, *patience) = (sum.plus(bytes), PATIENCE);
        }
    }

    /// The part of a counter's growth that the process did itself.
    pub(super) fn own(&self, pid: u32, grown: Bytes) -> Bytes {
        self.owed.get(&pid).map_or(grown, |(bytes, _)| grown.without(*bytes))
    }

    /// Removes what the parents' counters show by now.
    pub(super) fn settle(&mut self, grown: impl Fn(u32) -> Option<Bytes>) {
        self.owed.retain(|pid, (bytes, patience)| {
            *bytes = bytes.without(grown(*pid).unwrap_or_default());
            *patience -= 1;
            *patience > 0 && *bytes != Bytes::default()
        });
    }
}

/// Processes whose own I/O is unknown, because exits are not recorded and they have children, or had some recently.
/// That they all live proves nothing: others may have come and gone between two samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Parents {
    boot_id: BootId,
    /// By pid, for how many more samples.
    left: BTreeMap<u32, u32>,
}

impl Parents {
    /// The state after one more sample, which must have the parents of all its processes.
    pub(super) fn after(&self, sample: &Sample) -> Self {
        let known = self.left.iter().filter(|_| self.boot_id == sample.boot_id);
        let mut left: BTreeMap<_, _> =
            known.filter_map(|(pid, left)| Some((*pid, left.checked_sub(1)?))).collect();
        if !sample.sources.has(Sources::EXITS) {
            left.extend(sample.processes.iter().map(|process| (process.parent, LATE)));
        }
        Self { boot_id: sample.boot_id, left }
    }

    /// Whether the process with this pid may show I/O of its children.
    pub(super) fn has(&self, pid: u32) -> bool {
        self.left.contains_key(&pid)
    }
}

#[cfg(test)]
mod tests {
    use record::Process;

    use super::*;

    /// A sample with one child for each of these parents.
    fn sample(sources: Sources, parents: &[u32]) -> Sample {
        let child = |(parent, pid): (&u32, u32)| Process {
            parent: *parent,
            ..Process::bare(Identity { pid, started_ns: 0 })
        };
        Sample { sources, processes: parents.iter().zip(100..).map(child).collect(), ..Sample::default() }
    }

    #[test]
    fn without_recorded_exits_a_process_is_a_parent_until_its_last_childs_io_has_arrived() {
        let unrecorded = Sources::default();
        let mut parents = Parents::default().after(&sample(unrecorded, &[1, 7]));
        for _ in 0..LATE {
            parents = parents.after(&sample(unrecorded, &[1]));
            assert!(parents.has(1) && parents.has(7) && !parents.has(100));
        }
        parents = parents.after(&sample(unrecorded, &[1]));
        assert!(parents.has(1) && !parents.has(7));
        let rebooted = Sample { boot_id: BootId([1; 16]), ..sample(unrecorded, &[]) };
        assert!(!parents.after(&rebooted).has(1));
    }

    #[test]
    fn recorded_exits_tell_whose_io_it_was() {
        assert!(!Parents::default().after(&sample(Sources::EXITS, &[1])).has(1));
        // Exits are recorded from the second sample on: what happened before it is unknown.
        let parents = Parents::default().after(&sample(Sources::default(), &[1]));
        assert!(parents.after(&sample(Sources::EXITS, &[1])).has(1));
    }

    fn ended(pid: u32, parent: u32, read: u64) -> Ended {
        Ended {
            identity: Identity { pid, started_ns: pid.into() },
            parent,
            bytes: Bytes { read, written: 0 },
        }
    }

    #[test]
    fn a_childs_io_is_passed_on_to_the_surviving_ancestor() {
        let left = by_parent(vec![ended(7, 1, 10), ended(9, 7, 100), ended(8, 7, 1_000), ended(5, 3, 0)]);
        assert_eq!(left, BTreeMap::from([(1, Bytes { read: 1_110, written: 0 })]));
    }

    #[test]
    fn inherited_io_is_subtracted_once_whenever_it_arrives() {
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
