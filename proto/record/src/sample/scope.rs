//! Which of a sample's counters belong to the host, and which to a machine that it shares with others.
//!
//! In a container, /proc/stat, meminfo, vmstat, loadavg, pressure, diskstats and file-nr are the whole machine's. The
//! recorder marks such samples ([`Sources::PART_OF_MACHINE`]), and readers use the functions below.

use super::{HostCounters, Process, Sample, Sources};

/// Memory use of a host, KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnMemory {
    /// Maximum memory of its processes: the host's own limit, or else all memory of the machine.
    pub limit_kib: u64,
    /// The host has no limit of its own: `limit_kib` is the machine's, which others use too.
    pub shares_limit: bool,
    /// Memory in use, without what the kernel can reclaim.
    pub used_kib: u64,
    /// Page cache that the kernel can reclaim; absent if unknown.
    pub cache_kib: Option<u64>,
    /// The basis of `used_kib`.
    pub basis: Basis,
}

/// How memory use was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// MemTotal less MemAvailable: the host is a whole machine.
    Machine,
    /// Memory charged to the host's own control group; including its page cache if that is not known separately.
    ControlGroup,
    /// Memory held by its processes, because its control group is not visible: excludes tmpfs, page cache and kernel
    /// memory.
    Processes,
}

impl Basis {
    /// A phrase that explains the figure.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Machine => "of the machine",
            Self::ControlGroup => "charged to the host's control group",
            Self::Processes => "held by its processes",
        }
    }
}

impl HostCounters {
    /// Memory use, given whether the counters in /proc are a larger machine's, and what all processes hold, KiB.
    /// `None` if nothing is known.
    pub fn own_memory(&self, is_part: bool, held_kib: impl FnOnce() -> u64) -> Option<OwnMemory> {
        let limit_kib = self.memory_limit_kib().filter(|limit| *limit > 0)?;
        if !is_part && !self.is_limited() {
            let available_kib = self.memory_available_kib.or(self.memory_free_kib)?;
            let free_kib = self.memory_free_kib.unwrap_or(available_kib);
            return Some(OwnMemory {
                limit_kib,
                shares_limit: false,
                used_kib: limit_kib.saturating_sub(available_kib),
                cache_kib: Some(available_kib.saturating_sub(free_kib)),
                basis: Basis::Machine,
            });
        }
        let cache_kib = self.cgroup_cache_kib();
        let (used_kib, basis) = match self.cgroup_used_kib {
            Some(used_kib) => (used_kib.saturating_sub(cache_kib.unwrap_or(0)), Basis::ControlGroup),
            None => (held_kib(), Basis::Processes),
        };
        let shares_limit = self.cgroup_limit_kib.is_none_or(|limit| limit > limit_kib);
        Some(OwnMemory { limit_kib, shares_limit, used_kib, cache_kib, basis })
    }

    /// File pages charged to the host's own control group that are not shared memory: these can be reclaimed.
    fn cgroup_cache_kib(&self) -> Option<u64> {
        Some(self.cgroup_file_kib?.saturating_sub(self.cgroup_shmem_kib?))
    }

    /// Whether the host's own control group has a limit below the machine's memory, which no whole machine has.
    fn is_limited(&self) -> bool {
        self.cgroup_limit_kib
            .zip(self.memory_total_kib)
            .is_some_and(|(limit_kib, total_kib)| limit_kib < total_kib)
    }
}

impl Sample {
    /// Whether the host is only a part of a machine. Then all disks, and all of [`HostCounters`] except the fields
    /// `cgroup_…`, are the machine's. Older records lack the mark; there, a limit below MemTotal decides.
    pub fn is_part_of_machine(&self) -> bool {
        self.sources.has(Sources::PART_OF_MACHINE) || self.host.is_limited()
    }

    /// Out-of-memory kills on this host since boot. Excludes kills elsewhere on the machine; absent if there is no
    /// count for the host alone.
    pub fn own_kills(&self) -> Option<u64> {
        let machine = || self.host.oom_kills.filter(|_| !self.is_part_of_machine());
        self.host.cgroup_oom_kills.or_else(machine)
    }

    /// Memory use of the host: its own figures wherever they are known, see [`OwnMemory::basis`].
    pub fn own_memory(&self) -> Option<OwnMemory> {
        self.host.own_memory(self.is_part_of_machine(), || self.held_kib())
    }

    /// Total resident anonymous memory of all processes, KiB.
    pub fn held_kib(&self) -> u64 {
        let held = |process: &Process| process.anon_kib.unwrap_or(process.resident_kib);
        self.processes.iter().map(held).fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    fn machine() -> HostCounters {
        HostCounters {
            memory_total_kib: Some(24_000_000),
            memory_available_kib: Some(23_000_000),
            memory_free_kib: Some(20_000_000),
            oom_kills: Some(6),
            ..HostCounters::default()
        }
    }

    fn sample(sources: Sources, host: HostCounters) -> Sample {
        let process = |pid, anon_kib| Process {
            anon_kib: Some(anon_kib),
            ..Process::bare(Identity { pid, started_ns: 0 })
        };
        Sample {
            sources,
            host,
            processes: vec![process(1, 500_000), process(2, 100_000)],
            ..Sample::default()
        }
    }

    #[test]
    fn a_machine_s_counters_are_its_own() {
        let sample = sample(Sources::default(), machine());
        assert_eq!(sample.own_kills(), Some(6));
        let expected = OwnMemory {
            limit_kib: 24_000_000,
            shares_limit: false,
            used_kib: 1_000_000,
            cache_kib: Some(3_000_000),
            basis: Basis::Machine,
        };
        assert_eq!(sample.own_memory(), Some(expected));
    }

    #[test]
    fn kills_elsewhere_on_the_machine_are_not_the_host_s() {
        let part = sample(Sources::PART_OF_MACHINE, machine());
        assert_eq!(part.own_kills(), None);
        let counted = HostCounters { cgroup_oom_kills: Some(1), ..machine() };
        assert_eq!(sample(Sources::PART_OF_MACHINE, counted).own_kills(), Some(1));
        // A record from before the mark existed.
        let limited = HostCounters { cgroup_limit_kib: Some(628_000), ..machine() };
        assert_eq!(sample(Sources::default(), limited).own_kills(), None);
    }

    #[test]
    fn memory_of_a_part_is_its_control_group_s_or_else_what_its_processes_hold() {
        let limited = HostCounters { cgroup_limit_kib: Some(628_000), ..machine() };
        let held = OwnMemory {
            limit_kib: 628_000,
            shares_limit: false,
            used_kib: 600_000,
            cache_kib: None,
            basis: Basis::Processes,
        };
        let own = |host| sample(Sources::PART_OF_MACHINE, host).own_memory().unwrap();
        assert_eq!(own(limited), held);
        assert_eq!(own(machine()), OwnMemory { limit_kib: 24_000_000, shares_limit: true, ..held });
        let charged = HostCounters {
            cgroup_used_kib: Some(620_000),
            cgroup_file_kib: Some(100_000),
            cgroup_shmem_kib: Some(70_000),
            ..limited
        };
        let expected =
            OwnMemory { used_kib: 590_000, cache_kib: Some(30_000), basis: Basis::ControlGroup, ..held };
        assert_eq!(own(charged), expected);
    }
}
