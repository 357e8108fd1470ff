//! How accurate resident sizes in /proc are on this kernel.

use rustix::system::uname;

use super::super::per_cpu_error_kib;

/// Number of page faults after which a thread adds its own count to the total (TASK_RSS_EVENTS_THRESH in mm/memory.c).
const FAULTS_PER_THREAD: u64 = 65;

/// Memory that one fault may map: also the surrounding pages, if they are cached (fault_around_bytes in the same file).
const FAULT_KIB: u64 = 64;

/// The rule of the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    /// Since Linux 6.16, `statm` includes the counts of all CPUs, but `stat` does not: two sizes that are equal in
    /// `stat` may differ by twice what the CPUs can hold back.
    Exact { hidden_kib: u64 },
    /// Since Linux 6.2, each CPU may hold some pages back.
    PerCpu { error_kib: u64 },
    /// Before that, each thread may.
    PerThread { error_kib: u64 },
}

impl Precision {
    /// The rule of the running kernel.
    pub(super) fn of_kernel(page_kib: u64) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        Self::of(uname().release().to_bytes(), cpus, page_kib)
    }

    /// The rule of this release. Distributions backport the exact sum, which the release does not show.
    fn of(release: &[u8], cpus: u64, page_kib: u64) -> Self {
        let mut numbers = release
            .split(|byte| !byte.is_ascii_digit())
            .map(|digits| crate::number::number(digits).unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let per_cpu_kib = per_cpu_error_kib(cpus, page_kib);
        match version {
            (6, 16..) | (7.., _) => Self::Exact { hidden_kib: 2 * per_cpu_kib },
            (6, 2..) => Self::PerCpu { error_kib: per_cpu_kib },
            _ => Self::PerThread { error_kib: FAULTS_PER_THREAD * FAULT_KIB.max(page_kib) },
        }
    }

    /// Maximum error of a resident size, in KiB, if no process has more than `threads` threads; `assumed` if some
    /// sizes were not read because their `stat` was unchanged. Before Linux 6.16, both files have the same size.
    pub(super) fn error_kib(self, threads: u32, assumed: bool) -> u64 {
        match self {
            Self::Exact { hidden_kib } => u64::from(assumed) * hidden_kib,
            Self::PerCpu { error_kib } => error_kib,
            Self::PerThread { error_kib } => error_kib * u64::from(threads),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_distinguished() {
        assert_eq!(Precision::of(b"6.18.44-x", 2, 4).error_kib(9, false), 0);
        assert_eq!(Precision::of(b"6.18.44-x", 2, 4).error_kib(9, true), 1_536);
        assert_eq!(Precision::of(b"6.12.48+deb13-amd64", 2, 4).error_kib(9, true), 768);
        assert_eq!(Precision::of(b"6.1.0-40-cloud-amd64", 2, 4).error_kib(3, true), 12_480);
        assert_eq!(Precision::of(b"5.10.0", 2, 4).error_kib(1, true), 4_160);
    }

    #[test]
    fn the_error_grows_with_the_square_of_many_cpus() {
        assert_eq!(per_cpu_error_kib(2, 4), 768);
        assert_eq!(per_cpu_error_kib(64, 4), 98_304);
    }
}
