//! How exact resident sizes in /proc are on this kernel.

use rustix::system::uname;

use super::super::per_cpu_error_kib;

/// Page faults of a thread after which it adds what it has counted for itself (TASK_RSS_EVENTS_THRESH in mm/memory.c).
const FAULTS_PER_THREAD: u64 = 65;

/// What one fault may map: the pages around it too, if they are in memory (fault_around_bytes there).
const FAULT_KIB: u64 = 64;

/// Which rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    /// Since Linux 6.16 `statm` adds up what each CPU has counted, but `stat` does not: two sizes that look the same
    /// there may be as far apart as each CPU can hold back, twice.
    Exact { hidden_kib: u64 },
    /// Since Linux 6.2 each CPU may hold some pages back.
    PerCpu { error_kib: u64 },
    /// Before, each thread might.
    PerThread { error_kib: u64 },
}

impl Precision {
    /// Of the running kernel.
    pub(super) fn of_kernel(page_kib: u64) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        Self::of(uname().release().to_bytes(), cpus, page_kib)
    }

    /// Of this release. Distributions backport the exact sum, but the release does not tell.
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

    /// The most by which a resident size may be off where no process has more than so many threads; `assumed` if some
    /// were not read because their `stat` was the same. Before Linux 6.16 both files say the same.
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
    fn releases_are_told_apart() {
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
