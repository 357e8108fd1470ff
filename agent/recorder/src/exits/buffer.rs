//! A sample's process exits, with a limit: single exits as long as there is space, the rest grouped by name and parent.

use std::sync::Arc;

use record::{Exit, ExitGroup};

/// Maximum number of single exits in a sample.
pub const MAX_EXITS: usize = 512;
/// Part of them that is reserved for notable exits, so that many small processes cannot hide those.
const RESERVED: usize = 128;
/// Maximum number of groups for the rest; the last one takes whatever fits no other.
pub const MAX_GROUPS: usize = 64;
/// Name of the last group; its parent is 0.
const OTHER: &str = "(other)";

/// An exit is notable with this much CPU time, peak size or lifetime, or if a signal killed the process.
const NOTABLE_CPU_US: u64 = 100_000;
const NOTABLE_PEAK_KIB: u64 = 64 << 10;
const NOTABLE_LIFE_US: u64 = 10_000_000;

/// Process exits since the last sample. Adding to it allocates nothing.
#[derive(Debug)]
pub struct ExitBuffer {
    /// Single exits, in the order in which they were reported.
    pub exits: Vec<Exit>,
    /// The remaining exits, in groups.
    pub groups: Vec<ExitGroup>,
    other: Arc<str>,
}

impl Default for ExitBuffer {
    fn default() -> Self {
        Self {
            exits: Vec::with_capacity(MAX_EXITS),
            groups: Vec::with_capacity(MAX_GROUPS),
            other: OTHER.into(),
        }
    }
}

impl ExitBuffer {
    /// Removes everything, for the next sample.
    pub fn clear(&mut self) {
        self.exits.clear();
        self.groups.clear();
    }

    /// Adds the exit of a process.
    pub(super) fn push(&mut self, exit: Exit) {
        let room = if is_notable(&exit) { MAX_EXITS } else { MAX_EXITS - RESERVED };
        if self.exits.len() < room { self.exits.push(exit) } else { self.fold(&exit) }
    }

    fn fold(&mut self, exit: &Exit) {
        let is_same = |group: &ExitGroup| group.parent == exit.parent && group.comm == exit.comm;
        let index = match self.groups.iter().position(is_same) {
            Some(index) => index,
            None if self.groups.len() + 1 < MAX_GROUPS => self.begin(exit.parent, &exit.comm),
            // The last group is created once, and found by its position.
            None if self.groups.len() < MAX_GROUPS => self.begin(0, &self.other.clone()),
            None => MAX_GROUPS - 1,
        };
        let group = &mut self.groups[index];
        group.count += 1;
        group.failed += u64::from(exit.status != 0);
        group.cpu_us = group.cpu_us.saturating_add(exit.user_us).saturating_add(exit.system_us);
        group.peak_kib = group.peak_kib.max(exit.peak_kib);
    }

    fn begin(&mut self, parent: u32, comm: &Arc<str>) -> usize {
        let comm = comm.clone();
        self.groups.push(ExitGroup { parent, comm, count: 0, failed: 0, cpu_us: 0, peak_kib: 0 });
        self.groups.len() - 1
    }
}

fn is_notable(exit: &Exit) -> bool {
    exit.status & 0x7f != 0
        || exit.user_us.saturating_add(exit.system_us) >= NOTABLE_CPU_US
        || exit.peak_kib >= NOTABLE_PEAK_KIB
        || exit.lived_us >= NOTABLE_LIFE_US
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use record::Identity;

    use super::*;

    fn exit(parent: u32, comm: &str, status: u32) -> Exit {
        Exit {
            identity: Identity { pid: 9, started_ns: 0 },
            parent,
            uid: 0,
            comm: comm.into(),
            at_ns: 1,
            lived_us: 1000,
            user_us: 5,
            system_us: 7,
            peak_kib: 900,
            status,
            major_faults: 0,
            read_bytes: 0,
            written_bytes: 0,
        }
    }

    #[test]
    fn a_storm_is_folded_and_hides_no_kill() {
        let mut buffer = ExitBuffer::default();
        (0..4000).for_each(|_| buffer.push(exit(7, "true", 256)));
        buffer.push(exit(1, "apache2", 9));
        assert_eq!(buffer.exits.len(), MAX_EXITS - RESERVED + 1);
        assert_eq!(buffer.exits.last().map(|exit| &*exit.comm), Some("apache2"));
        let group = &buffer.groups[0];
        let folded = 4000 - (MAX_EXITS - RESERVED) as u64;
        assert_eq!(
            (group.count, group.failed, group.cpu_us, group.peak_kib),
            (folded, folded, 12 * folded, 900)
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_grows(
            ends in prop::collection::vec((0u32..20, 0u32..10, prop_oneof![Just(0), Just(256), Just(9)]), 0..3000),
        ) {
            let mut buffer = ExitBuffer::default();
            for (parent, name, status) in &ends {
                buffer.push(exit(*parent, &name.to_string(), *status));
            }
            let folded: u64 = buffer.groups.iter().map(|group| group.count).sum();
            prop_assert_eq!(buffer.exits.len() + folded as usize, ends.len());
            prop_assert_eq!((buffer.exits.capacity(), buffer.groups.capacity()), (MAX_EXITS, MAX_GROUPS));
        }
    }
}
