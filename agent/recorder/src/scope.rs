//! Whether the recorder sees a whole machine or only a part of one, such as a container: in a part, the counters in
//! /proc are the machine's, not the host's.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// Namespaces that hide parts of a machine, and the inodes of the initial ones (include/linux/proc_ns.h,
/// PROC_PID_INIT_INO and its neighbours), which are the same on every machine.
const FIRST: [(&str, u64); 3] = [("pid", 0xEFFF_FFFC), ("user", 0xEFFF_FFFD), ("cgroup", 0xEFFF_FFFB)];

/// Note for readers of a record from a part of a machine.
pub(super) const NOTE: &str = "this host is a container: CPUs, load, pressure, swap, disks, open files and memory figures from /proc \
     are those of the whole machine; the machine's out-of-memory kills are not counted as this host's";

/// Whether this process is in other pid, user or control group namespaces than the machine's first processes. Assumes
/// the initial namespace if the kernel does not show it.
pub(super) fn is_part_of_machine(proc: &Path) -> bool {
    FIRST.iter().any(|(name, first)| {
        let namespace = fs::metadata(proc.join("self/ns").join(name));
        namespace.is_ok_and(|namespace| namespace.ino() != *first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_namespace_is_a_part_of_a_machine() {
        let proc = tempfile::tempdir().unwrap();
        assert!(!is_part_of_machine(proc.path()), "nothing is known");
        fs::create_dir_all(proc.path().join("self/ns")).unwrap();
        fs::write(proc.path().join("self/ns/cgroup"), "").unwrap();
        assert!(is_part_of_machine(proc.path()));
    }
}
