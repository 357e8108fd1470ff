//! The kernel's own counters, in /proc.

use record::HostCounters;

use super::Parse;
use crate::{
    collector::TICK_NS,
    lines::{keyed, lines, pressure, single, words},
    number::number,
};

/// The files and their parsers.
pub(super) const FILES: [(&str, Parse); 7] = [
    ("stat", parse_stat),
    ("meminfo", parse_meminfo),
    ("vmstat", parse_vmstat),
    ("loadavg", parse_loadavg),
    ("pressure/cpu", |bytes, host| host.pressure_cpu_some_us = pressure(bytes, b"some")),
    ("pressure/memory", |bytes, host| {
        host.pressure_memory_some_us = pressure(bytes, b"some");
        host.pressure_memory_full_us = pressure(bytes, b"full");
    }),
    ("pressure/io", |bytes, host| {
        host.pressure_io_some_us = pressure(bytes, b"some");
        host.pressure_io_full_us = pressure(bytes, b"full");
    }),
];

/// Files in /proc/sys and their parsers, one short line each.
pub(super) const SETTINGS: [(&str, Parse); 3] = [
    ("sys/fs/file-nr", parse_file_nr),
    ("sys/kernel/pid_max", |bytes, host| host.pids_limit = single(bytes)),
    ("sys/kernel/threads-max", |bytes, host| host.tasks_limit = single(bytes)),
];

/// Parses `stat`.
fn parse_stat(bytes: &[u8], host: &mut HostCounters) {
    let mut cpus = 0;
    for line in lines(bytes) {
        let mut words = words(line);
        let Some(key) = words.next() else { continue };
        let mut next = || number(words.next()?);
        match key {
            b"cpu" => {
                let mut ticks = || next().map(|ticks| ticks.saturating_mul(TICK_NS));
                host.cpu_user_ns = ticks();
                host.cpu_nice_ns = ticks();
                host.cpu_system_ns = ticks();
                host.cpu_idle_ns = ticks();
                host.cpu_iowait_ns = ticks();
                host.cpu_irq_ns = ticks();
                host.cpu_softirq_ns = ticks();
                host.cpu_steal_ns = ticks();
            }
            b"ctxt" => host.context_switches = next(),
            b"processes" => host.forks = next(),
            b"procs_running" => host.running = next(),
            b"procs_blocked" => host.blocked = next(),
            _ if key.starts_with(b"cpu") => cpus += 1,
            _ => {}
        }
    }
    host.cpus = (cpus > 0).then_some(cpus);
}

/// Parses `meminfo`.
fn parse_meminfo(bytes: &[u8], host: &mut HostCounters) {
    let mut other = None;
    for (key, value) in keyed(bytes) {
        let field = match key {
            b"MemTotal" => &mut host.memory_total_kib,
            b"MemFree" => &mut host.memory_free_kib,
            b"MemAvailable" => &mut host.memory_available_kib,
            b"Cached" => &mut host.cached_kib,
            b"Dirty" => &mut host.dirty_kib,
            b"Writeback" => &mut host.writeback_kib,
            b"AnonPages" => &mut host.anon_kib,
            b"Shmem" => &mut host.shmem_kib,
            b"SUnreclaim" => &mut host.slab_unreclaimable_kib,
            b"Committed_AS" => &mut host.committed_kib,
            b"SwapTotal" => &mut host.swap_total_kib,
            b"SwapFree" => &mut host.swap_free_kib,
            b"PageTables" | b"KernelStack" | b"Percpu" => {
                other = Some(other.unwrap_or(0u64).saturating_add(value));
                continue;
            }
            _ => continue,
        };
        *field = Some(value);
    }
    host.kernel_other_kib = other;
}

/// Parses `vmstat`: some 200 lines, so other lines are skipped by their first letter. The file counts stalls for each
/// zone, and swap traffic in pages, which [`super::Host`] converts.
fn parse_vmstat(bytes: &[u8], host: &mut HostCounters) {
    for line in lines(bytes) {
        if !matches!(line.first(), Some(b'a' | b'o' | b'p' | b'w')) {
            continue;
        }
        let Some((key, value)) = line.iter().position(|byte| *byte == b' ').map(|end| line.split_at(end))
        else {
            continue;
        };
        let field = match key {
            b"pswpin" => &mut host.swap_in_kib,
            b"pswpout" => &mut host.swap_out_kib,
            b"pgmajfault" => &mut host.major_faults,
            b"pgscan_kswapd" => &mut host.scanned_kswapd,
            b"pgscan_direct" => &mut host.scanned_direct,
            b"pgsteal_kswapd" => &mut host.reclaimed_kswapd,
            b"pgsteal_direct" => &mut host.reclaimed_direct,
            b"workingset_refault_anon" => &mut host.refault_anon,
            b"workingset_refault_file" => &mut host.refault_file,
            b"oom_kill" => &mut host.oom_kills,
            _ if key.starts_with(b"allocstall") => &mut host.allocation_stalls,
            _ => continue,
        };
        if let Some(value) = single(value) {
            *field = Some(field.unwrap_or(0).saturating_add(value));
        }
    }
}

/// Parses `loadavg`: three averages with two decimals; runnable and all tasks; the last pid.
fn parse_loadavg(bytes: &[u8], host: &mut HostCounters) {
    let mut words = words(bytes);
    let mut average = || {
        let word = words.next()?;
        let dot = word.iter().position(|byte| *byte == b'.')?;
        let hundredths = number(word.get(dot + 1..).filter(|decimals| decimals.len() == 2)?)?;
        number(&word[..dot])?.checked_mul(100)?.checked_add(hundredths)
    };
    host.load_1 = average();
    host.load_5 = average();
    host.load_15 = average();
    host.tasks = words.next().and_then(|tasks| number(tasks.rsplit(|byte| *byte == b'/').next()?));
}

/// Parses `file-nr`: open files, a zero, and the maximum.
fn parse_file_nr(bytes: &[u8], host: &mut HostCounters) {
    let mut words = words(bytes).map(number);
    host.files = words.next().flatten();
    host.files_limit = words.nth(1).flatten();
}
