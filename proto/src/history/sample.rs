//! What one look at the host and its processes says, in raw counters: rates are for readers to compute.

use std::{fmt, str::FromStr, sync::Arc};

use super::Damage;

/// Names one boot of one kernel: `/proc/sys/kernel/random/boot_id`, random(4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BootId(pub [u8; 16]);

impl FromStr for BootId {
    type Err = Damage;

    fn from_str(text: &str) -> Result<Self, Damage> {
        let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
        if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Damage::Inconsistent("a boot id is not a UUID"));
        }
        let number =
            u128::from_str_radix(&digits, 16).map_err(|_| Damage::Inconsistent("a boot id is not a UUID"))?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

/// One look at everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The boot that the clocks and process ids belong to.
    pub boot_id: BootId,
    /// Wall time at the beginning of the sweep, milliseconds since the Unix epoch. May step; never divide by it.
    pub wall_ms: i64,
    /// `CLOCK_BOOTTIME` at the beginning of the sweep, ns: monotonic, runs on in suspend, and has the origin of
    /// [`Identity::started_ns`].
    pub boottime_ns: u64,
    /// Time that should pass between samples, ns.
    pub interval_ns: u64,
    /// How much later than planned the sweep began, ns. On a struggling host this is a symptom.
    pub late_ns: u64,
    /// How long the sweep took, ns; process `i` of `n` was read about `i/n` of it after `boottime_ns`.
    pub sweep_ns: u64,
    /// Processes that `/proc` listed; more than `processes` holds if some could not be read.
    pub listed: u64,
    /// The host as a whole.
    pub host: HostCounters,
    /// All processes, in strictly ascending order of identity.
    pub processes: Vec<Process>,
}

/// Tells a process from every other of the same boot, also from a later one with the same pid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Process id, as the recorder's pid namespace sees it.
    pub pid: u32,
    /// When it started, ns since boot; the kernel gives 10 ms steps (proc_pid_stat(5), field 22).
    pub started_ns: u64,
}

/// One process. Sizes are in KiB, the unit of the kernel's own files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Which process.
    pub identity: Identity,
    /// Its parent's pid.
    pub parent: u32,
    /// Effective user id.
    pub uid: Option<u32>,
    /// The host's name for `uid`.
    pub user: Option<Arc<str>>,
    /// Name of the main thread, at most 15 bytes for programs.
    pub comm: Arc<str>,
    /// Arguments joined by spaces; absent for kernel threads, zombies and what could not be read (yet).
    pub command: Option<Arc<str>>,
    /// The kernel's letter: `R` running, `S` sleeping, `D` waiting uninterruptibly, `Z` zombie, …
    pub state: u8,
    /// Threads.
    pub threads: u32,
    /// CPU time in user mode, ns, all threads. Only the sum with `system_ns` is exact (to one tick).
    pub user_ns: u64,
    /// CPU time in kernel mode, ns, all threads.
    pub system_ns: u64,
    /// Page faults that needed the disk.
    pub major_faults: u64,
    /// Address space.
    pub virtual_kib: u64,
    /// Resident memory.
    pub resident_kib: u64,
    /// Resident anonymous memory. This and the fields below are refreshed in turn, see `agent::record`.
    pub anon_kib: Option<u64>,
    /// Resident file pages.
    pub file_kib: Option<u64>,
    /// Resident shared memory.
    pub shmem_kib: Option<u64>,
    /// Anonymous memory swapped out.
    pub swap_kib: Option<u64>,
}

impl Process {
    /// A process of which nothing but its identity is known: the base that new processes are coded against.
    pub fn bare(identity: Identity) -> Self {
        Self {
            identity,
            parent: 0,
            uid: None,
            user: None,
            comm: Arc::from(""),
            command: None,
            state: 0,
            threads: 0,
            user_ns: 0,
            system_ns: 0,
            major_faults: 0,
            virtual_kib: 0,
            resident_kib: 0,
            anon_kib: None,
            file_kib: None,
            shmem_kib: None,
            swap_kib: None,
        }
    }

    /// User and system CPU time together, ns: the sum is what the kernel knows exactly.
    pub fn cpu_ns(&self) -> u64 {
        self.user_ns.saturating_add(self.system_ns)
    }
}

/// Defines the host's counters together with the list that the record format walks.
macro_rules! host_counters {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// The host as a whole: counters since boot unless said otherwise. Absent where the kernel has none.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct HostCounters {
            $($(#[$doc])+ pub $name: Option<u64>,)+
        }

        impl HostCounters {
            /// Every counter, in the order of the record format.
            pub(super) fn values(&self) -> impl Iterator<Item = Option<u64>> {
                [$(self.$name),+].into_iter()
            }

            /// Every counter, to be set in the order of the record format.
            pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Option<u64>> {
                [$(&mut self.$name),+].into_iter()
            }
        }
    };
}

host_counters! {
    /// CPUs online.
    cpus,
    /// CPU time of all CPUs in user mode, ns (/proc/stat, proc_stat(5)); includes guests.
    cpu_user_ns,
    /// CPU time in user mode at low priority, ns.
    cpu_nice_ns,
    /// CPU time in kernel mode, ns.
    cpu_system_ns,
    /// Idle CPU time, ns.
    cpu_idle_ns,
    /// Idle CPU time while a disk request was outstanding, ns.
    cpu_iowait_ns,
    /// CPU time in interrupts, ns.
    cpu_irq_ns,
    /// CPU time in soft interrupts, ns.
    cpu_softirq_ns,
    /// CPU time that the hypervisor gave to others, ns.
    cpu_steal_ns,
    /// Context switches.
    context_switches,
    /// Processes and threads created.
    forks,
    /// Runnable now.
    running,
    /// Blocked on I/O now.
    blocked,
    /// Load average over 1 minute, in hundredths.
    load_1,
    /// Load average over 5 minutes, in hundredths.
    load_5,
    /// Load average over 15 minutes, in hundredths.
    load_15,
    /// MemTotal, KiB (/proc/meminfo).
    memory_total_kib,
    /// MemFree, KiB.
    memory_free_kib,
    /// MemAvailable, KiB.
    memory_available_kib,
    /// Page cache, KiB.
    cached_kib,
    /// Dirty pages, KiB.
    dirty_kib,
    /// Pages being written, KiB.
    writeback_kib,
    /// Anonymous pages, KiB.
    anon_kib,
    /// Shared memory, KiB.
    shmem_kib,
    /// Kernel memory that cannot be reclaimed, KiB.
    slab_unreclaimable_kib,
    /// Memory promised to processes, KiB.
    committed_kib,
    /// SwapTotal, KiB.
    swap_total_kib,
    /// SwapFree, KiB.
    swap_free_kib,
    /// Pages read from swap (/proc/vmstat).
    swap_in_pages,
    /// Pages written to swap.
    swap_out_pages,
    /// Page faults that needed the disk.
    major_faults,
    /// Times that an allocation had to reclaim memory itself, all zones.
    allocation_stalls,
    /// Pages read again soon after they were dropped, anonymous.
    refault_anon,
    /// Pages read again soon after they were dropped, files.
    refault_file,
    /// Processes killed for want of memory.
    oom_kills,
    /// Time in which some task waited for a CPU, µs (/proc/pressure).
    pressure_cpu_some_us,
    /// Time in which some task waited for memory, µs.
    pressure_memory_some_us,
    /// Time in which all tasks waited for memory, µs.
    pressure_memory_full_us,
    /// Time in which some task waited for I/O, µs.
    pressure_io_some_us,
    /// Time in which all tasks waited for I/O, µs.
    pressure_io_full_us,
    /// Memory limit of the root cgroup that the recorder sees: a container's own limit, KiB.
    cgroup_limit_kib,
    /// Memory charged to that cgroup, KiB.
    cgroup_used_kib,
    /// Swap limit of that cgroup, KiB.
    cgroup_swap_limit_kib,
    /// Swap charged to that cgroup, KiB.
    cgroup_swap_used_kib,
    /// Processes killed in that cgroup for want of memory.
    cgroup_oom_kills,
}

impl HostCounters {
    /// The memory that processes can have, KiB: the container's limit if there is one below MemTotal.
    pub fn memory_limit_kib(&self) -> Option<u64> {
        match (self.memory_total_kib, self.cgroup_limit_kib) {
            (Some(total), Some(limit)) => Some(total.min(limit)),
            (total, limit) => total.or(limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_ids_are_written_as_the_kernel_writes_them() {
        let text = "0f8a4d2e-1b7c-4e5f-8a9b-0c1d2e3f4a5b";
        assert_eq!(text.parse::<BootId>().unwrap().to_string(), text);
        assert!("0f8a".parse::<BootId>().is_err());
        assert!("+f8a4d2e-1b7c-4e5f-8a9b-0c1d2e3f4a5b".parse::<BootId>().is_err());
    }
}
