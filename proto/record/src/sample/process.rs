//! Processes and process exits.

use std::sync::Arc;

/// Identifies a process within a boot, even if its pid is reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Process id in the recorder's pid namespace.
    pub pid: u32,
    /// Start time, ns since boot; the kernel has steps of 10 ms (proc_pid_stat(5), field 22).
    pub started_ns: u64,
}

/// A process in a sample. Sizes are in KiB, the unit of the kernel's own files; CPU times are in µs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Identity of the process.
    pub identity: Identity,
    /// Pid of the parent.
    pub parent: u32,
    /// Effective user id.
    pub uid: Option<u32>,
    /// The host's name for `uid`.
    pub user: Option<Arc<str>>,
    /// Name of the main thread, at most 15 bytes for programs.
    pub comm: Arc<str>,
    /// Arguments joined by spaces; absent for kernel threads, zombies, and while unread or unreadable.
    pub command: Option<Arc<str>>,
    /// Path of the control group, from the root that the recorder sees; absent until it has been read.
    pub cgroup: Option<Arc<str>>,
    /// The kernel's state letter: `R` running, `S` sleeping, `D` waiting uninterruptibly, `Z` zombie, …
    pub state: u8,
    /// Number of threads.
    pub threads: u32,
    /// CPU time in user mode, µs, all threads. Only the sum with `system_us` is exact.
    pub user_us: u64,
    /// CPU time in kernel mode, µs, all threads.
    pub system_us: u64,
    /// Time spent runnable without a CPU, µs, all threads; absent if the kernel or the collector does not provide it.
    pub wait_us: Option<u64>,
    /// Page faults that required disk access.
    pub major_faults: u64,
    /// Address space.
    pub virtual_kib: u64,
    /// Resident memory.
    pub resident_kib: u64,
    /// Resident anonymous memory. This and the fields below may be refreshed in turn, see the crate `recorder`.
    pub anon_kib: Option<u64>,
    /// Resident file pages.
    pub file_kib: Option<u64>,
    /// Resident shared memory.
    pub shmem_kib: Option<u64>,
    /// Anonymous memory swapped out.
    pub swap_kib: Option<u64>,
    /// Bytes that the process caused to be read from storage (proc_pid_io(5)). The kernel adds those of each child that
    /// the process waits for; the recorder leaves out the value after a wait if it cannot record exits.
    pub read_bytes: Option<u64>,
    /// Bytes that the process caused to be written to storage, counted when a page becomes dirty; children as above.
    pub written_bytes: Option<u64>,
}

impl Process {
    /// A process with nothing but its identity: the base that new processes are encoded against.
    pub fn bare(identity: Identity) -> Self {
        Self {
            identity,
            parent: 0,
            uid: None,
            user: None,
            // Does not allocate: std shares one empty string.
            comm: Arc::default(),
            command: None,
            cgroup: None,
            state: 0,
            threads: 0,
            user_us: 0,
            system_us: 0,
            wait_us: None,
            major_faults: 0,
            virtual_kib: 0,
            resident_kib: 0,
            anon_kib: None,
            file_kib: None,
            shmem_kib: None,
            swap_kib: None,
            read_bytes: None,
            written_bytes: None,
        }
    }

    /// User and system CPU time together, µs: the kernel knows this sum exactly.
    pub fn cpu_us(&self) -> u64 {
        self.user_us.saturating_add(self.system_us)
    }

    /// Memory that the process holds and the kernel cannot drop, KiB: anonymous memory, resident or swapped out. If
    /// the split is unknown, all resident memory counts.
    pub fn footprint_kib(&self) -> u64 {
        self.anon_kib.unwrap_or(self.resident_kib).saturating_add(self.swap_kib.unwrap_or(0))
    }
}

/// Indexes of the processes with one of these ids, in ascending order. `pids` must be few; `processes` must be sorted.
pub fn places_of(processes: &[Process], pids: &[u32], places: &mut Vec<usize>) {
    places_in(processes, |process| process.identity.pid, pids, places);
}

/// The same for other data about each process.
pub(crate) fn places_in<T>(
    processes: &[T],
    pid_of: impl Fn(&T) -> u32,
    pids: &[u32],
    places: &mut Vec<usize>,
) {
    places.clear();
    for pid in pids {
        let first = processes.partition_point(|process| pid_of(process) < *pid);
        let same = processes[first..].iter().take_while(|process| pid_of(process) == *pid).count();
        places.extend(first..first + same);
    }
    places.sort_unstable();
    places.dedup();
}

/// A process exit, with the last counters (taskstats, the kernel's taskstats.rst).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Identity of the process; the start is approximate if the process was in no sample.
    pub identity: Identity,
    /// Pid of the parent.
    pub parent: u32,
    /// User id.
    pub uid: u32,
    /// Name of the process.
    pub comm: Arc<str>,
    /// Time of the exit, ns since boot.
    pub at_ns: u64,
    /// Lifetime, µs.
    pub lived_us: u64,
    /// CPU time in user mode, µs.
    pub user_us: u64,
    /// CPU time in kernel mode, µs.
    pub system_us: u64,
    /// Maximum resident memory, KiB.
    pub peak_kib: u64,
    /// Wait status (wait(2)): the signal in the lowest 7 bits, the exit code in bits 8 to 15.
    pub status: u32,
    /// Page faults that required disk access.
    pub major_faults: u64,
    /// Bytes read from storage.
    pub read_bytes: u64,
    /// Bytes written to storage.
    pub written_bytes: u64,
}

/// Process exits that were too many to be recorded singly: all with the same name and parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitGroup {
    /// Pid of the parent.
    pub parent: u32,
    /// Name of the processes.
    pub comm: Arc<str>,
    /// Number of processes.
    pub count: u64,
    /// Number of processes that did not exit with code 0.
    pub failed: u64,
    /// Total CPU time, µs.
    pub cpu_us: u64,
    /// Maximum resident memory of a single process, KiB.
    pub peak_kib: u64,
}
