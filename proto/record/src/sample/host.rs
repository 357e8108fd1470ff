//! The host as a whole, in raw counters.

/// Defines the host's counters together with the list that the record format walks.
macro_rules! host_counters {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// The host as a whole: counters since boot unless said otherwise. Absent where the kernel has none. In a container
        /// they are the machine's but for those of a cgroup, see [`super::Sample::is_part_of_machine`].
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct HostCounters {
            $($(#[$doc])+ pub $name: Option<u64>,)+
        }

        impl HostCounters {
            /// How many there are.
            pub(crate) const COUNT: usize = [$(stringify!($name)),+].len();

            /// Every counter, in the order of the record format.
            pub(crate) fn values(&self) -> [Option<u64>; Self::COUNT] {
                [$(self.$name),+]
            }

            /// Every counter, to be set in the order of the record format.
            pub(crate) fn values_mut(&mut self) -> [&mut Option<u64>; Self::COUNT] {
                [$(&mut self.$name),+]
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
    /// Read from swap, KiB (/proc/vmstat has pages).
    swap_in_kib,
    /// Written to swap, KiB.
    swap_out_kib,
    /// Page faults that needed the disk.
    major_faults,
    /// Times that an allocation had to reclaim memory itself, all zones.
    allocation_stalls,
    /// Pages read again soon after they were dropped, anonymous.
    refault_anon,
    /// Pages read again soon after they were dropped, files.
    refault_file,
    /// Pages looked at for reclaim by kswapd.
    scanned_kswapd,
    /// Pages looked at for reclaim by those who wanted memory themselves.
    scanned_direct,
    /// Pages reclaimed by kswapd.
    reclaimed_kswapd,
    /// Pages reclaimed by those who wanted memory themselves.
    reclaimed_direct,
    /// Processes killed for want of memory, on the whole machine; absent where that is not the host.
    oom_kills,
    /// Processes and threads there are now (/proc/loadavg).
    tasks,
    /// Most process ids there can be at once (kernel.pid_max).
    pids_limit,
    /// Most processes and threads there can be at once (kernel.threads-max).
    tasks_limit,
    /// Open files (fs.file-nr).
    files,
    /// Most open files there can be at once.
    files_limit,
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
    /// Processes and threads in that cgroup.
    cgroup_tasks,
    /// Most processes and threads there can be in that cgroup.
    cgroup_tasks_limit,
    /// Time in which some task of that cgroup waited for memory, µs.
    cgroup_pressure_memory_some_us,
    /// Time in which all tasks of that cgroup waited for memory, µs.
    cgroup_pressure_memory_full_us,
    /// Anonymous memory charged to that cgroup, KiB.
    cgroup_anon_kib,
    /// Shared memory and tmpfs charged to that cgroup, KiB.
    cgroup_shmem_kib,
    /// File pages charged to that cgroup, shared memory among them, KiB.
    cgroup_file_kib,
    /// The kernel's own memory charged to that cgroup, KiB.
    cgroup_kernel_kib,
    /// Most that was ever charged to that cgroup at once, KiB.
    cgroup_peak_kib,
}

// A bit for each stands before their values in every record: a ninth byte would be another version of the format.
const _: () = assert!(HostCounters::COUNT.div_ceil(8) == 8);

impl HostCounters {
    /// The memory that processes can have, KiB: the container's limit if there is one below MemTotal.
    pub fn memory_limit_kib(&self) -> Option<u64> {
        match (self.memory_total_kib, self.cgroup_limit_kib) {
            (Some(total), Some(limit)) => Some(total.min(limit)),
            (total, limit) => total.or(limit),
        }
    }
}
