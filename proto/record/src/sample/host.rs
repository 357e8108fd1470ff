//! Raw counters of the whole host.

use super::counters::counters;

counters! {
    /// Counters of the whole host: since boot unless stated otherwise. Absent if the kernel has none. In a container,
    /// all except those of a cgroup are the machine's, see [`super::Sample::is_part_of_machine`].
    HostCounters {
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
        /// CPU time that the hypervisor gave to other guests, ns.
        cpu_steal_ns,
        /// Context switches.
        context_switches,
        /// Number of processes and threads created.
        forks,
        /// Tasks that are runnable now.
        running,
        /// Tasks that are blocked on I/O now.
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
        /// Pages being written back, KiB.
        writeback_kib,
        /// Anonymous pages, KiB.
        anon_kib,
        /// Shared memory, KiB.
        shmem_kib,
        /// Kernel memory that cannot be reclaimed, KiB.
        slab_unreclaimable_kib,
        /// Memory committed to processes, KiB.
        committed_kib,
        /// SwapTotal, KiB.
        swap_total_kib,
        /// SwapFree, KiB.
        swap_free_kib,
        /// Read from swap, KiB (/proc/vmstat has pages).
        swap_in_kib,
        /// Written to swap, KiB.
        swap_out_kib,
        /// Page faults that required disk access.
        major_faults,
        /// Number of allocations that had to reclaim memory directly, all zones.
        allocation_stalls,
        /// Anonymous pages read again soon after they were reclaimed.
        refault_anon,
        /// File pages read again soon after they were reclaimed.
        refault_file,
        /// Pages scanned for reclaim by kswapd.
        scanned_kswapd,
        /// Pages scanned for reclaim by allocating tasks.
        scanned_direct,
        /// Pages reclaimed by kswapd.
        reclaimed_kswapd,
        /// Pages reclaimed by allocating tasks.
        reclaimed_direct,
        /// Out-of-memory kills on the whole machine; absent if the host is only a part of it.
        oom_kills,
        /// Current number of processes and threads (/proc/loadavg).
        tasks,
        /// Maximum number of process ids (kernel.pid_max).
        pids_limit,
        /// Maximum number of processes and threads (kernel.threads-max).
        tasks_limit,
        /// Open files (fs.file-nr).
        files,
        /// Maximum number of open files.
        files_limit,
        /// Time in which at least one task waited for a CPU, µs (/proc/pressure).
        pressure_cpu_some_us,
        /// Time in which at least one task waited for memory, µs.
        pressure_memory_some_us,
        /// Time in which all tasks waited for memory, µs.
        pressure_memory_full_us,
        /// Time in which at least one task waited for I/O, µs.
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
        /// Out-of-memory kills in that cgroup.
        cgroup_oom_kills,
        /// Processes and threads in that cgroup.
        cgroup_tasks,
        /// Maximum number of processes and threads in that cgroup.
        cgroup_tasks_limit,
        /// Time in which at least one task of that cgroup waited for memory, µs.
        cgroup_pressure_memory_some_us,
        /// Time in which all tasks of that cgroup waited for memory, µs.
        cgroup_pressure_memory_full_us,
        /// Anonymous memory charged to that cgroup, KiB.
        cgroup_anon_kib,
        /// Shared memory and tmpfs charged to that cgroup, KiB.
        cgroup_shmem_kib,
        /// File pages charged to that cgroup, including shared memory, KiB.
        cgroup_file_kib,
        /// The kernel's own memory charged to that cgroup, KiB.
        cgroup_kernel_kib,
        /// Maximum memory that was ever charged to that cgroup, KiB.
        cgroup_peak_kib,
        /// Page tables, stacks of tasks and per-CPU data: memory of the kernel besides slabs, KiB.
        kernel_other_kib,
    }
}

// A record has a mask of 64 bits: one more counter would need a new version of the format.
const _: () = assert!(HostCounters::COUNT <= 64);

impl HostCounters {
    /// Maximum memory for processes, KiB: MemTotal, or a container's lower limit.
    pub fn memory_limit_kib(&self) -> Option<u64> {
        match (self.memory_total_kib, self.cgroup_limit_kib) {
            (Some(total), Some(limit)) => Some(total.min(limit)),
            (total, limit) => total.or(limit),
        }
    }
}
