//! One process, and what remains of it when it has ended.

use std::sync::Arc;

/// Tells a process from every other of the same boot, also from a later one with the same pid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Process id, as the recorder's pid namespace sees it.
    pub pid: u32,
    /// When it started, ns since boot; the kernel gives 10 ms steps (proc_pid_stat(5), field 22).
    pub started_ns: u64,
}

/// One process. Sizes are in KiB, the unit of the kernel's own files; CPU times are in µs.
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
    /// Path of its control group, from the root that the recorder sees; absent until it was read.
    pub cgroup: Option<Arc<str>>,
    /// The kernel's letter: `R` running, `S` sleeping, `D` waiting uninterruptibly, `Z` zombie, …
    pub state: u8,
    /// Threads.
    pub threads: u32,
    /// CPU time in user mode, µs, all threads. Only the sum with `system_us` is exact.
    pub user_us: u64,
    /// CPU time in kernel mode, µs, all threads.
    pub system_us: u64,
    /// Time spent runnable without a CPU, µs, all threads; absent where the kernel or the collector cannot tell.
    pub wait_us: Option<u64>,
    /// Page faults that needed the disk.
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
    /// Bytes that it caused to be read from storage (proc_pid_io(5)).
    pub read_bytes: Option<u64>,
    /// Bytes that it caused to be written to storage, counted when a page is made dirty.
    pub written_bytes: Option<u64>,
}

impl Process {
    /// A process of which nothing but its identity is known: the base that new processes are coded against.
    pub fn bare(identity: Identity) -> Self {
        Self {
            identity,
            parent: 0,
            uid: None,
            user: None,
            // Costs nothing: std has one for all.
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

    /// User and system CPU time together, µs: the sum is what the kernel knows exactly.
    pub fn cpu_us(&self) -> u64 {
        self.user_us.saturating_add(self.system_us)
    }

    /// Memory that it holds and the kernel cannot drop, KiB: anonymous memory, resident or swapped out. All resident
    /// memory stands in where the split is not known.
    pub fn footprint_kib(&self) -> u64 {
        self.anon_kib.unwrap_or(self.resident_kib).saturating_add(self.swap_kib.unwrap_or(0))
    }
}

/// The places of the processes with one of these ids, in ascending order. `pids` are few; `processes` are in order.
pub fn places_of(processes: &[Process], pids: &[u32], places: &mut Vec<usize>) {
    places_in(processes, |process| process.identity.pid, pids, places);
}

/// The same where something else stands for each process.
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

/// A process that has ended, with its last counters (taskstats, the kernel's taskstats.rst).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Which process; the start is near, not exact, if it never was in a sample.
    pub identity: Identity,
    /// Its parent's pid.
    pub parent: u32,
    /// Its user id.
    pub uid: u32,
    /// Its name.
    pub comm: Arc<str>,
    /// When it ended, ns since boot.
    pub at_ns: u64,
    /// How long it lived, µs.
    pub lived_us: u64,
    /// CPU time in user mode, µs.
    pub user_us: u64,
    /// CPU time in kernel mode, µs.
    pub system_us: u64,
    /// Most resident memory that it ever had, KiB.
    pub peak_kib: u64,
    /// Wait status (wait(2)): the signal in the lowest 7 bits, the exit code in bits 8 to 15.
    pub status: u32,
    /// Page faults that needed the disk.
    pub major_faults: u64,
    /// Bytes read from storage.
    pub read_bytes: u64,
    /// Bytes written to storage.
    pub written_bytes: u64,
}

/// Processes that have ended, too many to be told one by one: those of one name and parent together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitGroup {
    /// Their parent's pid.
    pub parent: u32,
    /// Their name.
    pub comm: Arc<str>,
    /// How many.
    pub count: u64,
    /// How many of them did not end with exit code 0.
    pub failed: u64,
    /// Their CPU time together, µs.
    pub cpu_us: u64,
    /// Most resident memory that one of them had, KiB.
    pub peak_kib: u64,
}
