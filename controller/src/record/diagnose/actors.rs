//! Processes put together by name and unit: what they hold at one moment, and what they use between two.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use record::{Identity, Process, Sample};

use super::verdict::{Actor, Who};
use crate::record::{names::unit, rates::Before};

/// The pid of the kernel's thread daemon, the parent of all kernel threads.
const KTHREADD: u32 = 2;

/// Whether a process is a kernel thread.
pub(super) fn is_kernel(process: &Process) -> bool {
    process.identity.pid == KTHREADD || process.parent == KTHREADD
}

/// The group of a process. Kernel threads of one kind differ in what follows the slash: `kworker/0:1`.
pub(super) fn who(process: &Process) -> Who {
    let comm = match process.comm.split_once('/') {
        Some((kind, _)) if is_kernel(process) => kind.into(),
        _ => Arc::clone(&process.comm),
    };
    Who { comm, unit: process.cgroup.as_deref().and_then(unit).map(Arc::from) }
}

/// A process as an actor.
pub(super) fn actor(process: &Process) -> Actor {
    Actor { pid: process.identity.pid, who: who(process), command: process.command.clone() }
}

/// What the processes of a group hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Level {
    /// Memory of each, KiB, with its identity.
    pub(super) each: Vec<(u64, Identity)>,
}

impl Level {
    /// Number of processes.
    pub(super) fn count(&self) -> u64 {
        self.each.len() as u64
    }

    /// Memory of all, KiB.
    pub(super) fn total(&self) -> u64 {
        self.each.iter().map(|(kib, _)| *kib).fold(0, u64::saturating_add)
    }

    /// The largest.
    pub(super) fn largest(&self) -> Option<(u64, Identity)> {
        self.each.iter().copied().max()
    }

    /// Memory of the middle one without `left_out`, KiB.
    pub(super) fn median(&self, left_out: Option<Identity>) -> Option<u64> {
        let mut sizes: Vec<_> =
            self.each.iter().filter(|(_, id)| Some(*id) != left_out).map(|(kib, _)| *kib).collect();
        sizes.sort_unstable();
        sizes.get(sizes.len() / 2).copied()
    }
}

/// What every group holds at one moment.
pub(super) type Levels = BTreeMap<Who, Level>;

/// Levels of a sample, of the processes that `admits`.
pub(super) fn levels(sample: &Sample, admits: impl Fn(&Process) -> bool) -> Levels {
    let mut levels = Levels::new();
    for process in sample.processes.iter().filter(|process| !is_kernel(process) && admits(process)) {
        levels.entry(who(process)).or_default().each.push((process.footprint_kib(), process.identity));
    }
    levels
}

/// What processes used in a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage {
    /// Length of the time, s.
    pub(super) seconds: f64,
    /// Of groups.
    pub(super) groups: BTreeMap<Who, Used>,
    /// Of single processes.
    pub(super) processes: HashMap<Identity, Used>,
    /// Children that ended, by the pid of their parent.
    pub(super) ended: HashMap<u32, Ended>,
    /// The processes, as last seen.
    pub(super) known: HashMap<Identity, Process>,
}

/// Resources that a process or a group used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Used {
    /// CPU time, s.
    pub(super) cpu: f64,
    /// Bytes read and written.
    pub(super) read: f64,
    pub(super) written: f64,
    /// Maximum number of processes at once.
    pub(super) count: u64,
}

/// Short-lived children of one process.
#[derive(Clone, Debug, Default)]
pub(super) struct Ended {
    /// Their number.
    pub(super) count: u64,
    /// Their CPU time, s.
    pub(super) cpu: f64,
    /// Numbers by name.
    pub(super) names: BTreeMap<Arc<str>, u64>,
}

impl Used {
    /// Bytes in both directions.
    pub(super) fn bytes(&self) -> f64 {
        self.read + self.written
    }

    fn add(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.read += other.read;
        self.written += other.written;
    }
}

/// A child that lived shorter than this counts as short-lived, µs.
const SHORT_US: u64 = 3_000_000;

impl Usage {
    /// What processes used between the first and the last of these samples, which are of one boot.
    pub(super) fn of<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Self {
        let mut usage = Self::default();
        let mut before = Before::default();
        let mut last_ns = None;
        for sample in samples {
            if let Some(elapsed_ns) = last_ns.and_then(|last: u64| sample.boottime_ns.checked_sub(last)) {
                usage.add(sample, &before, elapsed_ns as f64 / 1e9);
            }
            before.keep(sample);
            last_ns = Some(sample.boottime_ns);
        }
        usage
    }

    fn add(&mut self, sample: &Sample, before: &Before, seconds: f64) {
        self.seconds += seconds;
        let mut counts: BTreeMap<Who, u64> = BTreeMap::new();
        for (process, rates) in sample.processes.iter().zip(before.rates(sample)) {
            let used = Used {
                cpu: rates.cpu_percent.unwrap_or(0.0) / 100.0 * seconds,
                read: rates.read_bytes.unwrap_or(0.0) * seconds,
                written: rates.written_bytes.unwrap_or(0.0) * seconds,
                count: 0,
            };
            let who = who(process);
            *counts.entry(who.clone()).or_default() += 1;
            self.groups.entry(who).or_default().add(used);
            self.processes.entry(process.identity).or_default().add(used);
            self.known.insert(process.identity, process.clone());
        }
        for (who, count) in counts {
            let group = self.groups.entry(who).or_default();
            group.count = group.count.max(count);
        }
        self.add_exits(sample);
    }

    fn add_exits(&mut self, sample: &Sample) {
        for exit in &sample.exits {
            let cpu = exit.user_us.saturating_add(exit.system_us) as f64 / 1e6;
            let seen = self.processes.get(&exit.identity).map_or(0.0, |used| used.cpu);
            if exit.lived_us < SHORT_US {
                self.ended.entry(exit.parent).or_default().add(&exit.comm, 1, cpu);
            } else if let Some(process) = self.known.get(&exit.identity) {
                // What it used after its last sample.
                let rest = (cpu - process.cpu_us() as f64 / 1e6).max(0.0);
                self.groups.entry(who(process)).or_default().cpu += rest;
                self.processes.entry(exit.identity).or_default().cpu = seen + rest;
            }
        }
        for group in &sample.exit_groups {
            self.ended.entry(group.parent).or_default().add(
                &group.comm,
                group.count,
                group.cpu_us as f64 / 1e6,
            );
        }
    }

    /// CPUs that a group uses.
    pub(super) fn cpus(&self, who: &Who) -> f64 {
        self.groups.get(who).map_or(0.0, |used| used.cpu) / self.seconds.max(0.001)
    }

    /// CPUs that a process uses.
    pub(super) fn cpus_of(&self, identity: Identity) -> f64 {
        self.processes.get(&identity).map_or(0.0, |used| used.cpu) / self.seconds.max(0.001)
    }

    /// Bytes per second of a process.
    pub(super) fn bytes_of(&self, identity: Identity) -> f64 {
        self.processes.get(&identity).map_or(0.0, Used::bytes) / self.seconds.max(0.001)
    }

    /// A known process with this pid.
    pub(super) fn by_pid(&self, pid: u32) -> Option<&Process> {
        self.known.values().find(|process| process.identity.pid == pid)
    }

    /// Processes of a group.
    pub(super) fn members<'a>(&'a self, of: &'a Who) -> impl Iterator<Item = &'a Process> {
        self.known.values().filter(move |process| who(process) == *of)
    }

    /// Whether a group consists of kernel threads.
    pub(super) fn is_kernel(&self, who: &Who) -> bool {
        self.members(who).next().is_some_and(is_kernel)
    }
}

impl Ended {
    fn add(&mut self, comm: &Arc<str>, count: u64, cpu: f64) {
        self.count += count;
        self.cpu += cpu;
        *self.names.entry(Arc::clone(comm)).or_default() += count;
    }

    /// The most frequent name.
    pub(super) fn comm(&self) -> Option<Arc<str>> {
        self.names.iter().max_by_key(|(_, count)| **count).map(|(comm, _)| Arc::clone(comm))
    }
}
