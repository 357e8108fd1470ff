//! How much memory this host may use: the machine's, or a lower limit.
//!
//! In a container, /proc/meminfo and the cgroup file system may not show the limit that applies. A provider that
//! sets a limit therefore writes it to `limits.json`, beside the enrol document: `{"memory_bytes": 642777088}`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::unistd::{SysconfVar, sysconf};

use serde::Deserialize;

use recorder::ControlGroups;

use crate::paths::Paths;

#[derive(Deserialize)]
struct Limits {
    memory_bytes: Option<u64>,
}

/// The provider's memory limit, in bytes; `None` if there is no limit.
pub fn provided(paths: &Paths) -> Option<u64> {
    let json = fs::read(paths.limits()).ok()?;
    serde_json::from_slice::<Limits>(&json).ok()?.memory_bytes
}

/// Total and available memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// MemTotal, or a lower limit.
    pub total: u64,
    /// What processes can still allocate without swapping.
    pub available: u64,
}

impl Memory {
    /// The same numbers as in the record ([`record::OwnMemory`]): the machine's memory, or the limit of the host's
    /// own control group if that is lower, less what is charged to that group or held by its processes.
    ///
    /// # Errors
    /// If /proc/meminfo cannot be read.
    pub fn read(paths: &Paths, system: &Path) -> io::Result<Self> {
        let proc = system.join("proc");
        fs::metadata(proc.join("meminfo"))?;
        let (host, is_part) = recorder::look(&proc, &ControlGroups::below(system), provided(paths));
        let own = host.own_memory(is_part, || held_kib(&proc)).ok_or(io::ErrorKind::InvalidData)?;
        let left_kib = own.limit_kib.saturating_sub(own.used_kib);
        // The machine may have less memory left than the host's limit allows.
        let available_kib = host.memory_available_kib.map_or(left_kib, |machine| machine.min(left_kib));
        let bytes = |kib: u64| kib.saturating_mul(1024);
        Ok(Self { total: bytes(own.limit_kib), available: bytes(available_kib) })
    }
}

/// Memory that processes hold and share with no file, in KiB. Approximates the use of a limit that has no counters
/// visible inside the host. From statm (proc_pid_statm(5): size, resident, shared, in pages).
fn held_kib(proc: &Path) -> u64 {
    let private_pages = |path: PathBuf| -> Option<u64> {
        let text = fs::read_to_string(path.join("statm")).ok()?;
        let mut fields = text.split_ascii_whitespace().skip(1).map_while(|field| field.parse::<u64>().ok());
        Some(fields.next()?.saturating_sub(fields.next()?))
    };
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    let pages: u64 = processes.filter_map(|entry| private_pages(entry.path())).sum();
    pages.saturating_mul(page_bytes() / 1024)
}

fn page_bytes() -> u64 {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of 2,048 KiB with 1,024 KiB available.
    fn machine() -> (tempfile::TempDir, Paths) {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("proc/7")).expect("made");
        fs::create_dir_all(root.path().join("sys/fs/cgroup")).expect("made");
        fs::write(root.path().join("proc/meminfo"), "MemTotal: 2048 kB\nMemAvailable: 1024 kB\n")
            .expect("written");
        let paths = Paths::new(root.path());
        (root, paths)
    }

    #[test]
    fn a_providers_limit_counts_and_what_processes_hold_uses_it_up() {
        let (root, paths) = machine();
        let read = || Memory::read(&paths, root.path()).expect("read");
        assert_eq!(read(), Memory { total: 2 << 20, available: 1 << 20 });
        fs::write(paths.limits(), "{\"memory_bytes\":null}").expect("written");
        assert_eq!(read().total, 2 << 20);
        fs::write(paths.limits(), format!("{{\"memory_bytes\":{}}}", 10 * page_bytes())).expect("written");
        assert_eq!(read(), Memory { total: 10 * page_bytes(), available: 10 * page_bytes() });
        // Three pages resident, one of them shared: two are held.
        fs::write(root.path().join("proc/7/statm"), "9 3 1 1 0 1 0\n").expect("written");
        assert_eq!(read(), Memory { total: 10 * page_bytes(), available: 8 * page_bytes() });
    }

    #[test]
    fn a_limit_of_the_control_group_counts_and_what_is_charged_but_for_its_cache() {
        let (root, paths) = machine();
        let write = |name: &str, text: &str| {
            fs::write(root.path().join("sys/fs/cgroup").join(name), text).expect("written");
        };
        write("memory.max", "1048576\n");
        write("memory.current", "524288\n");
        write("memory.stat", "anon 262144\nfile 204800\nshmem 102400\n");
        let read = || Memory::read(&paths, root.path()).expect("read");
        assert_eq!(read(), Memory { total: 1 << 20, available: (1 << 19) + 102_400 });
        write("memory.max", "max\n");
        assert_eq!(read().total, 2 << 20);
    }

    #[test]
    fn without_meminfo_reading_fails() {
        let (root, paths) = machine();
        fs::write(root.path().join("proc/meminfo"), "MemTotal: 1 kB\n").expect("written");
        assert!(Memory::read(&paths, root.path()).is_err());
    }
}
