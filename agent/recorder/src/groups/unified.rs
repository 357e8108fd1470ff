//! Files of a control group of version 2 (the kernel's cgroup-v2.rst).

use record::GroupCounters;

use super::Parse;
use crate::{
    lines::{keyed, kib, lines, pressure, single, value, words},
    number::number,
};

/// The files and their parsers.
pub(super) const FILES: [(&str, Parse); 17] = [
    ("memory.current", |bytes, group| group.memory_kib = kib(bytes)),
    ("memory.peak", |bytes, group| group.peak_kib = kib(bytes)),
    ("memory.max", |bytes, group| group.limit_kib = kib(bytes)),
    ("memory.high", |bytes, group| group.high_kib = kib(bytes)),
    ("memory.swap.current", |bytes, group| group.swap_kib = kib(bytes)),
    ("memory.swap.max", |bytes, group| group.swap_limit_kib = kib(bytes)),
    ("memory.stat", parse_parts),
    ("memory.events", parse_events),
    ("memory.pressure", |bytes, group| {
        group.pressure_memory_some_us = pressure(bytes, b"some");
        group.pressure_memory_full_us = pressure(bytes, b"full");
    }),
    ("pids.current", |bytes, group| group.tasks = single(bytes)),
    ("pids.max", |bytes, group| group.tasks_limit = single(bytes)),
    ("pids.events", |bytes, group| group.tasks_refused = value(bytes, b"max")),
    ("cpu.stat", |bytes, group| {
        group.cpu_us = value(bytes, b"usage_usec");
        group.throttled_us = value(bytes, b"throttled_usec");
    }),
    ("cpu.max", parse_cpu_limit),
    ("cpu.pressure", |bytes, group| group.pressure_cpu_some_us = pressure(bytes, b"some")),
    ("io.pressure", |bytes, group| {
        group.pressure_io_some_us = pressure(bytes, b"some");
        group.pressure_io_full_us = pressure(bytes, b"full");
    }),
    ("io.stat", parse_io),
];

/// Parses `memory.stat`. Before Linux 5.18 it has no sum of the kernel's part.
pub(crate) fn parse_parts(bytes: &[u8], group: &mut GroupCounters) {
    let (mut kernel, mut parts) = (None, None);
    for (key, value) in keyed(bytes) {
        let kib = Some(value / 1024);
        match key {
            b"anon" => group.anon_kib = kib,
            b"file" => group.file_kib = kib,
            b"shmem" => group.shmem_kib = kib,
            b"file_dirty" => group.dirty_kib = kib,
            b"kernel" => kernel = kib,
            b"kernel_stack" | b"pagetables" | b"percpu" | b"slab" => {
                parts = Some(parts.unwrap_or(0u64).saturating_add(value / 1024));
            }
            b"workingset_refault_file" => group.refault_file = Some(value),
            b"workingset_refault_anon" => group.refault_anon = Some(value),
            b"pgmajfault" => group.major_faults = Some(value),
            _ => {}
        }
    }
    group.kernel_kib = kernel.or(parts);
}

fn parse_events(bytes: &[u8], group: &mut GroupCounters) {
    for (key, value) in keyed(bytes) {
        let field = match key {
            b"high" => &mut group.high_events,
            b"max" => &mut group.limit_events,
            b"oom" => &mut group.oom_events,
            b"oom_kill" => &mut group.oom_kills,
            _ => continue,
        };
        *field = Some(value);
    }
}

/// Parses `cpu.max`: the CPU time allowed in a period, or `max`, and the period.
fn parse_cpu_limit(bytes: &[u8], group: &mut GroupCounters) {
    let mut words = words(bytes).map(number);
    let (quota, period) = (words.next().flatten(), words.next().flatten());
    group.cpu_limit_permille =
        quota.zip(period).and_then(|(quota, period)| quota.saturating_mul(1_000).checked_div(period));
}

/// Parses `io.stat`: a line of names and values for each device.
fn parse_io(bytes: &[u8], group: &mut GroupCounters) {
    for word in lines(bytes).flat_map(words) {
        let mut add = |field: fn(&mut GroupCounters) -> &mut Option<u64>, name: &[u8]| {
            if let Some(bytes) = word.strip_prefix(name).and_then(number) {
                let field = field(group);
                *field = Some(field.unwrap_or(0).saturating_add(bytes));
            }
        };
        add(|group| &mut group.read_bytes, b"rbytes=");
        add(|group| &mut group.written_bytes, b"wbytes=");
    }
}
