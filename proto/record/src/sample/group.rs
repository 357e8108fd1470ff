//! Control groups: units, containers and slices, with their own counters.

use std::sync::Arc;

use super::counters::counters;

/// A control group and its counters when they were last read. Groups are read in turn, less often than processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Path from the root that the recorder sees: `/system.slice/apache2.service`.
    pub path: Arc<str>,
    /// The counters.
    pub counters: GroupCounters,
}

counters! {
    /// Counters of a control group and its subgroups (the kernel's cgroup-v2.rst; for version 1 memory.rst, pids.rst and
    /// cpuacct.rst), since the group's creation unless stated otherwise. Absent without the controller, or, for a limit, if
    /// there is none.
    GroupCounters {
        /// Time of this reading, ns since boot.
        read_ns,
        /// Memory charged now, KiB.
        memory_kib,
        /// Maximum memory that was ever charged, KiB.
        peak_kib,
        /// Memory limit, KiB.
        limit_kib,
        /// Memory above which the group is slowed down, KiB.
        high_kib,
        /// Swap charged now, KiB.
        swap_kib,
        /// Swap limit, KiB.
        swap_limit_kib,
        /// Anonymous memory, KiB.
        anon_kib,
        /// File pages including shared memory, KiB.
        file_kib,
        /// Shared memory and tmpfs, KiB: charged to the group that wrote it first.
        shmem_kib,
        /// The kernel's own memory, KiB.
        kernel_kib,
        /// Dirty file pages, KiB.
        dirty_kib,
        /// File pages read again soon after they were reclaimed.
        refault_file,
        /// Anonymous pages read again soon after they were reclaimed.
        refault_anon,
        /// Page faults that required disk access.
        major_faults,
        /// How often use was above `high_kib`.
        high_events,
        /// How often use reached the limit.
        limit_events,
        /// How often memory ran out at the limit.
        oom_events,
        /// Processes of the group that were killed because memory ran out, here or on the whole host.
        oom_kills,
        /// Processes and threads now.
        tasks,
        /// Maximum number of processes and threads.
        tasks_limit,
        /// How often a task could not be created because of that limit.
        tasks_refused,
        /// CPU time, µs.
        cpu_us,
        /// Limit of CPU time, in thousandths of one CPU.
        cpu_limit_permille,
        /// Time in which tasks had to stop because of that limit, µs.
        throttled_us,
        /// Time in which at least one task waited for a CPU, µs.
        pressure_cpu_some_us,
        /// Time in which at least one task waited for memory, µs.
        pressure_memory_some_us,
        /// Time in which all tasks waited for memory, µs.
        pressure_memory_full_us,
        /// Time in which at least one task waited for I/O, µs.
        pressure_io_some_us,
        /// Time in which all tasks waited for I/O, µs.
        pressure_io_full_us,
        /// Bytes read from storage.
        read_bytes,
        /// Bytes written to storage.
        written_bytes,
    }
}

// A record has a mask of 32 bits for each group.
const _: () = assert!(GroupCounters::COUNT <= 32);
