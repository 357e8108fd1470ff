//! Files of control groups of version 1, where every controller has a tree of its own (the kernel's
//! cgroup-v1/memory.rst, cpuacct.rst, pids.rst and blkio-controller.rst).

use record::GroupCounters;

use super::Parse;
use crate::{
    lines::{keyed, kib, limit_kib, lines, single, value, words},
    number::number,
};

/// The trees of the controllers, and the files in each.
pub(super) const CONTROLLERS: [(&str, &[(&str, Parse)]); 5] = [
    ("memory", &MEMORY),
    ("pids", &PIDS),
    ("cpuacct", &[("cpuacct.usage", |bytes, group| group.cpu_us = single(bytes).map(|ns| ns / 1_000))]),
    (
        "cpu",
        &[("cpu.stat", |bytes, group| {
            group.throttled_us = value(bytes, b"throttled_time").map(|ns| ns / 1_000);
        })],
    ),
    ("blkio", &[("blkio.throttle.io_service_bytes", parse_io)]),
];

const MEMORY: [(&str, Parse); 6] = [
    ("memory.usage_in_bytes", |bytes, group| group.memory_kib = kib(bytes)),
    ("memory.max_usage_in_bytes", |bytes, group| group.peak_kib = kib(bytes)),
    ("memory.limit_in_bytes", |bytes, group| group.limit_kib = limit_kib(bytes)),
    ("memory.failcnt", |bytes, group| group.limit_events = single(bytes)),
    ("memory.stat", parse_parts),
    ("memory.oom_control", |bytes, group| group.oom_kills = value(bytes, b"oom_kill")),
];

const PIDS: [(&str, Parse); 3] = [
    ("pids.current", |bytes, group| group.tasks = single(bytes)),
    ("pids.max", |bytes, group| group.tasks_limit = single(bytes)),
    ("pids.events", |bytes, group| group.tasks_refused = value(bytes, b"max")),
];

/// Parses `memory.stat`, where the sums over all groups below have names of their own.
pub(crate) fn parse_parts(bytes: &[u8], group: &mut GroupCounters) {
    for (key, value) in keyed(bytes) {
        let field = match key {
            b"total_rss" => &mut group.anon_kib,
            b"total_cache" => &mut group.file_kib,
            b"total_shmem" => &mut group.shmem_kib,
            b"total_swap" => &mut group.swap_kib,
            b"total_dirty" => &mut group.dirty_kib,
            b"total_pgmajfault" => {
                group.major_faults = Some(value);
                continue;
            }
            _ => continue,
        };
        *field = Some(value / 1024);
    }
}

/// Parses `blkio.throttle.io_service_bytes`: a device, an operation and a number a line.
fn parse_io(bytes: &[u8], group: &mut GroupCounters) {
    for line in lines(bytes) {
        let mut words = words(line).skip(1);
        let (Some(operation), Some(count)) = (words.next(), words.next().and_then(number)) else {
            continue;
        };
        let field = match operation {
            b"Read" => &mut group.read_bytes,
            b"Write" => &mut group.written_bytes,
            _ => continue,
        };
        *field = Some(field.unwrap_or(0).saturating_add(count));
    }
}
