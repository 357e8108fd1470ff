//! Whether the recorder sees a whole machine, or only its own part of one: then the counters below /proc are those of
//! the machine, and not of the host.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// Namespaces that hide a part of a machine, and their first inodes (include/linux/proc_ns.h, PROC_PID_INIT_INO and its
/// neighbours), which every machine has.
const FIRST: [(&str, u64); 3] = [("pid", 0xEFFF_FFFC), ("user", 0xEFFF_FFFD), ("cgroup", 0xEFFF_FFFB)];

/// What a reader of the record should know of a part.
pub(super) const NOTE: &str = "this host is a part of a machine: CPUs, load, pressure, swap, disks, open files and what /proc says of memory \
     are the whole machine's; its kills for want of memory are not counted as this host's";

/// Whether this process is in another pid, user or control group namespace than the machine's first processes. What the
/// kernel does not show is taken for the first one.
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
    fn another_namespace_is_a_part() {
        let proc = tempfile::tempdir().unwrap();
        assert!(!is_part_of_machine(proc.path()), "nothing is known");
        fs::create_dir_all(proc.path().join("self/ns")).unwrap();
        fs::write(proc.path().join("self/ns/cgroup"), "").unwrap();
        assert!(is_part_of_machine(proc.path()));
    }
}
