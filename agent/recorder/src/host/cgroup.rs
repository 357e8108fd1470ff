//! Limits of the topmost control group that the recorder sees: a container's own. A whole machine has none.

use record::{GroupCounters, HostCounters};

use super::Parse;
use crate::{
    groups::{unified, version1},
    lines::{kib, limit_kib, pressure, single, value},
};

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
    host.cgroup_oom_kills = value(bytes, b"oom_kill");
}

/// The parts of charged memory, as of any group.
fn parse_parts(bytes: &[u8], host: &mut HostCounters) {
    let mut group = GroupCounters::default();
    unified::parse_parts(bytes, &mut group);
    take_parts(&group, host);
    host.cgroup_kernel_kib = group.kernel_kib;
}

/// The same for version 1, where the kernel's part has a file of its own.
fn parse_parts_1(bytes: &[u8], host: &mut HostCounters) {
    let mut group = GroupCounters::default();
    version1::parse_parts(bytes, &mut group);
    take_parts(&group, host);
}

fn take_parts(group: &GroupCounters, host: &mut HostCounters) {
    host.cgroup_anon_kib = group.anon_kib;
    host.cgroup_file_kib = group.file_kib;
    host.cgroup_shmem_kib = group.shmem_kib;
}
