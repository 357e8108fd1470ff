//! Limits of the topmost control group that the recorder sees: a container's own. A whole machine has none.

use record::HostCounters;

use super::Parse;
use crate::lines::{keyed, kib, limit_kib, pressure, single};

/// The files of version 2 (the kernel's cgroup-v2.rst); the root of a whole machine has none of them.
pub(super) const UNIFIED_FILES: [(&str, Parse); 10] = [
    ("memory.max", |bytes, host| host.cgroup_limit_kib = kib(bytes)),
    ("memory.current", |bytes, host| host.cgroup_used_kib = kib(bytes)),
    ("memory.peak", |bytes, host| host.cgroup_peak_kib = kib(bytes)),
    ("memory.stat", parse_parts),
    ("memory.swap.max", |bytes, host| host.cgroup_swap_limit_kib = kib(bytes)),
    ("memory.swap.current", |bytes, host| host.cgroup_swap_used_kib = kib(bytes)),
    ("memory.events", parse_kills),
    ("memory.pressure", |bytes, host| {
        host.cgroup_pressure_memory_some_us = pressure(bytes, b"some");
        host.cgroup_pressure_memory_full_us = pressure(bytes, b"full");
    }),
    ("pids.current", |bytes, host| host.cgroup_tasks = single(bytes)),
    ("pids.max", |bytes, host| host.cgroup_tasks_limit = single(bytes)),
];

/// The files of version 1.
pub(super) const FILES: [(&str, Parse); 8] = [
    ("memory/memory.limit_in_bytes", |bytes, host| host.cgroup_limit_kib = limit_kib(bytes)),
    ("memory/memory.usage_in_bytes", |bytes, host| host.cgroup_used_kib = kib(bytes)),
    ("memory/memory.max_usage_in_bytes", |bytes, host| host.cgroup_peak_kib = kib(bytes)),
    ("memory/memory.kmem.usage_in_bytes", |bytes, host| host.cgroup_kernel_kib = kib(bytes)),
    ("memory/memory.stat", parse_parts_1),
    ("memory/memory.oom_control", parse_kills),
    ("pids/pids.current", |bytes, host| host.cgroup_tasks = single(bytes)),
    ("pids/pids.max", |bytes, host| host.cgroup_tasks_limit = single(bytes)),
];

fn parse_kills(bytes: &[u8], host: &mut HostCounters) {
    host.cgroup_oom_kills = keyed(bytes).find(|(key, _)| *key == b"oom_kill").map(|(_, value)| value);
}

/// Parses `memory.stat`: the parts of charged memory. Before Linux 5.18 it has no sum of the kernel's part.
fn parse_parts(bytes: &[u8], host: &mut HostCounters) {
    let (mut kernel, mut parts) = (None, None);
    for (key, bytes) in keyed(bytes) {
        let kib = bytes / 1024;
        match key {
            b"anon" => host.cgroup_anon_kib = Some(kib),
            b"file" => host.cgroup_file_kib = Some(kib),
            b"shmem" => host.cgroup_shmem_kib = Some(kib),
            b"kernel" => kernel = Some(kib),
            b"kernel_stack" | b"pagetables" | b"percpu" | b"slab" => {
                parts = Some(parts.unwrap_or(0u64).saturating_add(kib));
            }
            _ => {}
        }
    }
    host.cgroup_kernel_kib = kernel.or(parts);
}

/// The same for version 1, where the sums over all groups below have separate names.
fn parse_parts_1(bytes: &[u8], host: &mut HostCounters) {
    for (key, bytes) in keyed(bytes) {
        let field = match key {
            b"total_rss" => &mut host.cgroup_anon_kib,
            b"total_cache" => &mut host.cgroup_file_kib,
            b"total_shmem" => &mut host.cgroup_shmem_kib,
            _ => continue,
        };
        *field = Some(bytes / 1024);
    }
}
