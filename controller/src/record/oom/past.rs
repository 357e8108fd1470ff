//! Sizes from the last sample before a kill, with their age.

use std::{collections::BTreeMap, sync::Arc};

use record::{Identity, Process, Sample, oom::MemoryUse};

use super::{
    Named,
    holder::{Held, Holder, Memory, Origin},
};
use crate::record::names::user_name;

/// A process younger than this is taken to have started with no memory.
const YOUNG_NS: u64 = 5_000_000_000;
/// No growth is computed over less time: the kernel reports start times in steps of 10 ms.
const SHORTEST_NS: u64 = 20_000_000;

/// The newest sample before a kill.
#[derive(Clone, Copy, Debug)]
pub(super) struct Past<'a> {
    sample: &'a Sample,
    /// The sample before it.
    earlier: Option<&'a Sample>,
    age_ms: u64,
}

impl<'a> Past<'a> {
    /// The newest of these samples that started before the kill. All are from the same boot, newest first.
    pub(super) fn before(at_ns: u64, newest_first: impl IntoIterator<Item = &'a Sample>) -> Option<Self> {
        let mut samples = newest_first.into_iter().skip_while(|sample| sample.boottime_ns >= at_ns);
        let sample = samples.next()?;
        let age_ms = (at_ns - sample.boottime_ns) / 1_000_000;
        Some(Self { sample, earlier: samples.next(), age_ms })
    }

    /// The process with this pid.
    pub(super) fn process(&self, pid: u32) -> Option<&'a Process> {
        self.sample.processes.iter().rfind(|process| process.identity.pid == pid)
    }

    /// Describes a process of this sample.
    pub(super) fn named(&self, process: &Process) -> Named {
        Named {
            pid: process.identity.pid,
            comm: Arc::clone(&process.comm),
            user: Some(user_name(process)),
            command: process.command.clone(),
            held: Some(self.held(process)),
            peak_kib: None,
        }
    }

    /// Footprint of a process of this sample.
    pub(super) fn held(&self, process: &Process) -> Held {
        let kib = process.footprint_kib();
        let earlier = self.earlier.and_then(|earlier| {
            Some((earlier.boottime_ns, found(&earlier.processes, process.identity)?.footprint_kib()))
        });
        let growth_kib =
            earlier.or_else(|| self.birth(process.identity)).and_then(|then| self.growth(kib, then));
        Held { kib, origin: Origin::Sample { age_ms: self.age_ms, growth_kib } }
    }

    /// The time from which all processes with one name grew, and their footprint then: of a group of which no process
    /// existed in the earlier sample, the start of the first.
    fn grew_from(&self, comm: &str, group: &[&Process]) -> Option<(u64, u64)> {
        let is_old = |earlier: &&Sample| {
            group.iter().any(|process| found(&earlier.processes, process.identity).is_some())
        };
        let Some(earlier) = self.earlier.filter(is_old) else {
            return self.birth(group.iter().map(|process| process.identity).min_by_key(|it| it.started_ns)?);
        };
        // A process may have had another name.
        let is_now = |identity| group.binary_search_by_key(&identity, |process| process.identity).is_ok();
        let belongs = |process: &&Process| *process.comm == *comm || is_now(process.identity);
        let then = earlier.processes.iter().filter(belongs).map(Process::footprint_kib);
        Some((earlier.boottime_ns, then.fold(0, u64::saturating_add)))
    }

    /// Start time of a young process, with a footprint of 0.
    fn birth(&self, identity: Identity) -> Option<(u64, u64)> {
        let age_ns = self.sample.boottime_ns.saturating_sub(identity.started_ns);
        (age_ns < YOUNG_NS).then_some((identity.started_ns, 0))
    }

    /// Growth in KiB per second since `then`: a time and the footprint at that time.
    fn growth(&self, kib: u64, (at_ns, then_kib): (u64, u64)) -> Option<f64> {
        let passed_ns = self.sample.boottime_ns.checked_sub(at_ns).filter(|passed| *passed >= SHORTEST_NS)?;
        Some((kib as f64 - then_kib as f64) * 1e9 / passed_ns as f64)
    }

    /// The process with the largest footprint.
    pub(super) fn biggest(&self) -> Option<Named> {
        let biggest = self.sample.processes.iter().max_by_key(|process| process.footprint_kib())?;
        Some(self.named(biggest))
    }

    /// The name with the largest total footprint.
    pub(super) fn by_name(&self) -> Option<Holder> {
        let mut holders: BTreeMap<&Arc<str>, u64> = BTreeMap::new();
        for process in &self.sample.processes {
            let kib = holders.entry(&process.comm).or_default();
            *kib = kib.saturating_add(process.footprint_kib());
        }
        let (comm, kib) = holders.into_iter().max_by_key(|(_, kib)| *kib)?;
        let group = self.sample.processes.iter().filter(|process| process.comm == *comm);
        let group: Vec<&Process> = group.collect();
        let growth_kib = self.grew_from(comm, &group).and_then(|then| self.growth(kib, then));
        Some(Holder {
            comm: Arc::clone(comm),
            processes: group.len() as u64,
            held: Held { kib, origin: Origin::Sample { age_ms: self.age_ms, growth_kib } },
            swap_kib: group.iter().filter_map(|process| process.swap_kib).fold(0, u64::saturating_add),
            counts_shared: group.iter().any(|process| process.anon_kib.is_none()),
        })
    }

    /// The host's memory limit, KiB.
    pub(super) fn limit_kib(&self) -> Option<u64> {
        self.sample.host.memory_limit_kib()
    }

    /// The host's memory use by kind.
    pub(super) fn memory(&self) -> Memory {
        Memory { parts: parts(self.sample), origin: Origin::Sample { age_ms: self.age_ms, growth_kib: None } }
    }
}

/// The process with this identity; the processes must be in order.
fn found(processes: &[Process], identity: Identity) -> Option<&Process> {
    let index = processes.binary_search_by_key(&identity, |process| process.identity).ok()?;
    Some(&processes[index])
}

/// The host's memory use by kind, from the host's own counters. A host in a container never uses the machine's counters;
/// without its own, only the memory of its processes is known.
fn parts(sample: &Sample) -> MemoryUse {
    let host = &sample.host;
    let less = |all: Option<u64>, part: Option<u64>| Some(all?.saturating_sub(part?));
    if sample.is_part_of_machine() {
        return MemoryUse {
            total_kib: host.cgroup_used_kib,
            anon_kib: host.cgroup_anon_kib.or_else(|| Some(sample.held_kib())),
            shmem_kib: host.cgroup_shmem_kib,
            file_kib: less(host.cgroup_file_kib, host.cgroup_shmem_kib),
            kernel_kib: host.cgroup_kernel_kib,
            free_kib: None,
        };
    }
    MemoryUse {
        total_kib: host.memory_total_kib,
        anon_kib: host.anon_kib,
        shmem_kib: host.shmem_kib,
        file_kib: less(host.cached_kib, host.shmem_kib),
        kernel_kib: host.slab_unreclaimable_kib,
        free_kib: host.memory_free_kib,
    }
}
