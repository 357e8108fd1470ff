//! How much memory this host may use: the machine's, or less.
//!
//! In a container neither /proc/meminfo nor the cgroup filesystem need show the limit that applies (a
//! v1 limit is set from outside and invisible within), so a provider that sets one leaves it in
//! `limits.json` beside the enrol document: `{"memory_bytes": 642777088}`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::unistd::{SysconfVar, sysconf};

use serde::Deserialize;

use crate::paths::Paths;

#[derive(Deserialize)]
struct Limits {
    memory_bytes: Option<u64>,
}

/// The limit that the provider left, in bytes.
pub fn provided(paths: &Paths) -> Option<u64> {
    let json = fs::read(paths.limits()).ok()?;
    serde_json::from_slice::<Limits>(&json).ok()?.memory_bytes
}

/// What there is and what is left, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// MemTotal, or a lower limit.
    pub total: u64,
    /// What can still be had without swapping.
    pub available: u64,
}

impl Memory {
    /// The machine's memory, or the limit of the host's own control group where that is lower. The files of
    /// the group are those at the top of its namespace: on a whole machine the root group has none.
    ///
    /// # Errors
    /// /proc/meminfo cannot be read.
    pub fn read(paths: &Paths, system: &Path) -> io::Result<Self> {
        let own = Self::visible(system)?;
        Ok(match provided(paths) {
            Some(limit) if limit < own.total => {
                let left = limit.saturating_sub(held(system));
                Self { total: limit, available: own.available.min(left) }
            }
            _ => own,
        })
    }

    /// What is visible from within.
    fn visible(system: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(system.join("proc/meminfo"))?;
        let machine = Self::of_machine(&text).ok_or(io::ErrorKind::InvalidData)?;
        let group = |name: &str| fs::read_to_string(system.join("sys/fs/cgroup").join(name));
        let (Ok(limit), Ok(current), Ok(stat)) =
            (group("memory.max"), group("memory.current"), group("memory.stat"))
        else {
            return Ok(machine);
        };
        Ok(machine.limited(&limit, &current, &stat))
    }

    /// From the text of /proc/meminfo (proc_meminfo(5)).
    fn of_machine(text: &str) -> Option<Self> {
        let kilobytes = |key: &str| field(text, key).and_then(|kilobytes| kilobytes.checked_mul(1024));
        Some(Self { total: kilobytes("MemTotal:")?, available: kilobytes("MemAvailable:")? })
    }

    /// With the texts of a group's memory.max, memory.current and memory.stat (the kernel's cgroup-v2.rst).
    /// Available is what is left below the limit once the file pages that nobody uses are dropped.
    fn limited(self, limit: &str, current: &str, stat: &str) -> Self {
        let (Ok(limit), Ok(current)) = (limit.trim().parse::<u64>(), current.trim().parse::<u64>()) else {
            return self;
        };
        if limit >= self.total {
            return self;
        }
        let working = current.saturating_sub(field(stat, "inactive_file").unwrap_or_default());
        Self { total: limit, available: self.available.min(limit.saturating_sub(working)) }
    }
}

/// Memory that processes hold and share with no file, in bytes: what a limit that shows no counters within is
/// used up by, near enough. From statm (proc_pid_statm(5): size, resident, shared, in pages).
fn held(system: &Path) -> u64 {
    let private_pages = |path: PathBuf| -> Option<u64> {
        let text = fs::read_to_string(path.join("statm")).ok()?;
        let mut fields = text.split_ascii_whitespace().skip(1).map_while(|field| field.parse::<u64>().ok());
        Some(fields.next()?.saturating_sub(fields.next()?))
    };
    let processes = fs::read_dir(system.join("proc")).into_iter().flatten().flatten();
    let pages: u64 = processes.filter_map(|entry| private_pages(entry.path())).sum();
    pages.saturating_mul(page_bytes())
}

fn page_bytes() -> u64 {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4096)
}

/// The number after `key` at the beginning of a line.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some(key)).then(|| words.next()?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_providers_limit_counts() {
        let root = tempfile::tempdir().expect("a directory");
        let paths = Paths::new(root.path());
        fs::create_dir(root.path().join("proc")).expect("made");
        fs::write(root.path().join("proc/meminfo"), "MemTotal: 2048 kB\nMemAvailable: 1024 kB\n")
            .expect("written");
        let read = || Memory::read(&paths, root.path()).expect("read");
        assert_eq!(read(), Memory { total: 2 << 20, available: 1 << 20 });
        fs::write(paths.limits(), "{\"memory_bytes\":null}").expect("written");
        assert_eq!(read().total, 2 << 20);
        fs::write(paths.limits(), "{\"memory_bytes\":1000}").expect("written");
        assert_eq!(read(), Memory { total: 1000, available: 1000 });

        // Three pages resident, one of them shared: two are held.
        fs::create_dir(root.path().join("proc/7")).expect("made");
        fs::write(root.path().join("proc/7/statm"), "9 3 1 1 0 1 0\n").expect("written");
        fs::write(paths.limits(), format!("{{\"memory_bytes\":{}}}", 10 * page_bytes())).expect("written");
        assert_eq!(read(), Memory { total: 10 * page_bytes(), available: 8 * page_bytes() });
    }

    const MACHINE: Memory = Memory { total: 8 << 30, available: 6 << 30 };

    #[test]
    fn the_machines_memory_is_read() {
        let text = "MemTotal:        8388608 kB\nMemFree:   1 kB\nMemAvailable:    6291456 kB\n";
        assert_eq!(Memory::of_machine(text), Some(MACHINE));
        assert_eq!(Memory::of_machine("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn a_lower_limit_counts() {
        let stat = "anon 100\ninactive_file 1048576\nactive_file 7\n";
        let limited = MACHINE.limited("1073741824\n", "536870912\n", stat);
        assert_eq!(limited, Memory { total: 1 << 30, available: (1 << 29) + (1 << 20) });
    }

    #[test]
    fn no_limit_or_a_higher_one_does_not() {
        assert_eq!(MACHINE.limited("max\n", "5\n", ""), MACHINE);
        assert_eq!(MACHINE.limited("99999999999999\n", "5\n", ""), MACHINE);
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_harmless(limit in ".{0,30}", current in ".{0,30}", stat in ".{0,80}") {
            let _ = Memory::of_machine(&stat);
            let limited = MACHINE.limited(&limit, &current, &stat);
            prop_assert!(limited.available <= MACHINE.available && limited.total <= MACHINE.total);
        }
    }
}
