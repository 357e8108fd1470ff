//! Limits of the control group at the top of what the recorder sees: a container's own. A whole machine has none.

use proto::history::HostCounters;

use super::{
    Parse,
    lines::{keyed, pressure, single},
};

/// The files of version 2 (the kernel's cgroup-v2.rst); the root of a whole machine has none of them.
pub(super) const UNIFIED_FILES: [(&str, Parse); 8] = [
    ("memory.max", |bytes, host| host.cgroup_limit_kib = kib(bytes)),
    ("memory.current", |bytes, host| host.cgroup_used_kib = kib(bytes)),
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

/// The same of version 1, as far as it has them.
pub(super) const FILES: [(&str, Parse); 5] = [
    ("memory/memory.limit_in_bytes", |bytes, host| {
        host.cgroup_limit_kib = kib(bytes).filter(|limit| *limit < NO_LIMIT_KIB);
    }),
    ("memory/memory.usage_in_bytes", |bytes, host| host.cgroup_used_kib = kib(bytes)),
    ("memory/memory.oom_control", parse_kills),
    ("pids/pids.current", |bytes, host| host.cgroup_tasks = single(bytes)),
    ("pids/pids.max", |bytes, host| host.cgroup_tasks_limit = single(bytes)),
];

/// Version 1 has a huge number of bytes for no limit (PAGE_COUNTER_MAX).
const NO_LIMIT_KIB: u64 = 1 << 50;

/// Bytes as KiB; `max` is no limit.
fn kib(bytes: &[u8]) -> Option<u64> {
    single(bytes).map(|bytes| bytes / 1024)
}

fn parse_kills(bytes: &[u8], host: &mut HostCounters) {
    host.cgroup_oom_kills = keyed(bytes).find(|(key, _)| *key == b"oom_kill").map(|(_, value)| value);
}
