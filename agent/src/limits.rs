//! How much memory this host may use: the machine's, or less.
//!
//! In a container neither /proc/meminfo nor the cgroup filesystem need show the limit that applies (a
//! v1 limit is set from outside and invisible within), so a provider that sets one leaves it in
//! `limits.json` beside the enrol document: `{"memory_bytes": 642777088}`.

use std::{fs, path::Path};

use serde::Deserialize;

use crate::paths::Paths;

#[derive(Deserialize)]
struct Limits {
    memory_bytes: Option<u64>,
}

/// The smallest of MemTotal, the own cgroup's `memory.max` (cgroup v2) and the provider's limit, in bytes.
/// `system` is `/` outside tests. `None` if nothing says anything.
pub fn memory_bytes(paths: &Paths, system: &Path) -> Option<u64> {
    let total = fs::read_to_string(system.join("proc/meminfo")).ok().and_then(|text| mem_total(&text));
    // A limit that says "max" is no number, and the root cgroup has no such file.
    let cgroup = fs::read_to_string(system.join("sys/fs/cgroup/memory.max"))
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let given = fs::read(paths.limits()).ok().and_then(|json| provided(&json));
    [total, cgroup, given].into_iter().flatten().min()
}

/// MemTotal of /proc/meminfo (proc_meminfo(5)), which counts in KiB.
fn mem_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn provided(json: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Limits>(json).ok()?.memory_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_counts() {
        let root = tempfile::tempdir().expect("a directory");
        let paths = Paths::new(root.path());
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("below the root")).expect("made");
            fs::write(path, text).expect("written");
        };
        assert_eq!(memory_bytes(&paths, root.path()), None);
        write("proc/meminfo", "MemTotal:         627712 kB\nMemFree:  100 kB\n");
        assert_eq!(memory_bytes(&paths, root.path()), Some(627_712 * 1024));
        write("sys/fs/cgroup/memory.max", "max\n");
        assert_eq!(memory_bytes(&paths, root.path()), Some(627_712 * 1024));
        write("sys/fs/cgroup/memory.max", "314572800\n");
        assert_eq!(memory_bytes(&paths, root.path()), Some(314_572_800));
        write("limits.json", "{\"memory_bytes\": 1000}");
        assert_eq!(memory_bytes(&paths, root.path()), Some(1000));
    }
}
