//! Metrics of the host and the recorder from one sample.

use record::{HostCounters, OwnMemory, Sample};

use super::text::Text;

/// Writes all metrics except those of processes. If the host is part of a machine, metrics of the whole machine have names
/// that start with `magpie_machine_`.
pub(super) fn write(sample: &Sample, text: &mut Text) {
    let part = sample.is_part_of_machine();
    text.of_machine(part);
    cpu(&sample.host, text);
    memory(&sample.host, text);
    pressure(&sample.host, text);
    tasks(&sample.host, text);
    disks(sample, text);
    text.of_machine(false);
    own_memory(sample, part, text);
    filesystems(sample, text);
    recorder(sample, text);
}

fn seconds(ns: Option<u64>) -> Option<f64> {
    ns.map(|ns| ns as f64 / 1e9)
}

fn bytes(kib: Option<u64>) -> Option<f64> {
    kib.map(|kib| kib as f64 * 1024.0)
}

fn number(value: Option<u64>) -> Option<f64> {
    value.map(|value| value as f64)
}

fn cpu(host: &HostCounters, text: &mut Text) {
    text.counter("magpie_cpu_seconds", "CPU time of all CPUs")
        .some(&[("mode", "user")], seconds(host.cpu_user_ns))
        .some(&[("mode", "nice")], seconds(host.cpu_nice_ns))
        .some(&[("mode", "system")], seconds(host.cpu_system_ns))
        .some(&[("mode", "idle")], seconds(host.cpu_idle_ns))
        .some(&[("mode", "iowait")], seconds(host.cpu_iowait_ns))
        .some(&[("mode", "irq")], seconds(host.cpu_irq_ns))
        .some(&[("mode", "softirq")], seconds(host.cpu_softirq_ns))
        .some(&[("mode", "steal")], seconds(host.cpu_steal_ns));
    text.gauge("magpie_cpus", "CPUs online").some(&[], number(host.cpus));
    let load = |hundredths: Option<u64>| hundredths.map(|load| load as f64 / 100.0);
    text.gauge("magpie_load", "Load average")
        .some(&[("minutes", "1")], load(host.load_1))
        .some(&[("minutes", "5")], load(host.load_5))
        .some(&[("minutes", "15")], load(host.load_15));
}

fn memory(host: &HostCounters, text: &mut Text) {
    text.gauge("magpie_memory_bytes", "Memory, as in /proc/meminfo")
        .some(&[("kind", "total")], bytes(host.memory_total_kib))
        .some(&[("kind", "free")], bytes(host.memory_free_kib))
        .some(&[("kind", "available")], bytes(host.memory_available_kib))
        .some(&[("kind", "cached")], bytes(host.cached_kib))
        .some(&[("kind", "dirty")], bytes(host.dirty_kib))
        .some(&[("kind", "anonymous")], bytes(host.anon_kib))
        .some(&[("kind", "shared")], bytes(host.shmem_kib))
        .some(&[("kind", "unreclaimable")], bytes(host.slab_unreclaimable_kib))
        .some(&[("kind", "committed")], bytes(host.committed_kib));
    text.gauge("magpie_swap_bytes", "Swap space")
        .some(&[("kind", "total")], bytes(host.swap_total_kib))
        .some(&[("kind", "free")], bytes(host.swap_free_kib));
    text.counter("magpie_swap_io_bytes", "Bytes moved between memory and swap")
        .some(&[("direction", "in")], bytes(host.swap_in_kib))
        .some(&[("direction", "out")], bytes(host.swap_out_kib));
    text.counter("magpie_major_faults", "Page faults that needed the disk")
        .some(&[], number(host.major_faults));
    text.counter("magpie_allocation_stalls", "Allocations that had to reclaim memory themselves")
        .some(&[], number(host.allocation_stalls));
    text.counter("magpie_refaults", "Pages read again soon after they were dropped")
        .some(&[("kind", "anonymous")], number(host.refault_anon))
        .some(&[("kind", "file")], number(host.refault_file));
    text.counter("magpie_scanned_pages", "Pages scanned for reclaim")
        .some(&[("by", "kswapd")], number(host.scanned_kswapd))
        .some(&[("by", "direct")], number(host.scanned_direct));
}

/// Metrics that belong to the host even if it is only part of a machine. A whole machine's memory is in [`memory`].
fn own_memory(sample: &Sample, part: bool, text: &mut Text) {
    let host = &sample.host;
    if let Some(OwnMemory { limit_kib, shares_limit, used_kib, .. }) = sample.own_memory().filter(|_| part) {
        let limit_kib = (!shares_limit).then_some(limit_kib);
        let left_kib = limit_kib.map(|limit_kib| limit_kib.saturating_sub(used_kib));
        text.gauge("magpie_memory_bytes", "Memory of the host, which is part of a machine")
            .some(&[("kind", "total")], bytes(limit_kib))
            .some(&[("kind", "available")], bytes(left_kib))
            .some(&[("kind", "used")], bytes(Some(used_kib)));
    }
    text.gauge("magpie_cgroup_memory_bytes", "Memory of the host's control group")
        .some(&[("kind", "limit")], bytes(host.cgroup_limit_kib))
        .some(&[("kind", "used")], bytes(host.cgroup_used_kib))
        .some(&[("kind", "peak")], bytes(host.cgroup_peak_kib))
        .some(&[("kind", "anonymous")], bytes(host.cgroup_anon_kib))
        .some(&[("kind", "shared")], bytes(host.cgroup_shmem_kib))
        .some(&[("kind", "file")], bytes(host.cgroup_file_kib))
        .some(&[("kind", "kernel")], bytes(host.cgroup_kernel_kib));
    text.counter("magpie_oom_kills", "Out-of-memory kills on the host").some(&[], number(sample.own_kills()));
}

fn pressure(host: &HostCounters, text: &mut Text) {
    let seconds = |us: Option<u64>| us.map(|us| us as f64 / 1e6);
    text.counter("magpie_pressure_seconds", "Time during which some or all tasks waited")
        .some(&[("resource", "cpu"), ("share", "some")], seconds(host.pressure_cpu_some_us))
        .some(&[("resource", "memory"), ("share", "some")], seconds(host.pressure_memory_some_us))
        .some(&[("resource", "memory"), ("share", "full")], seconds(host.pressure_memory_full_us))
        .some(&[("resource", "io"), ("share", "some")], seconds(host.pressure_io_some_us))
        .some(&[("resource", "io"), ("share", "full")], seconds(host.pressure_io_full_us));
}

fn tasks(host: &HostCounters, text: &mut Text) {
    text.counter("magpie_forks", "Processes and threads created").some(&[], number(host.forks));
    text.counter("magpie_context_switches", "Context switches").some(&[], number(host.context_switches));
    text.gauge("magpie_tasks", "Processes and threads")
        .some(&[("state", "all")], number(host.tasks))
        .some(&[("state", "runnable")], number(host.running))
        .some(&[("state", "blocked")], number(host.blocked));
    text.gauge("magpie_limit", "Maximum number at one time")
        .some(&[("of", "pids")], number(host.pids_limit))
        .some(&[("of", "tasks")], number(host.tasks_limit))
        .some(&[("of", "files")], number(host.files_limit));
    text.gauge("magpie_open_files", "Open files").some(&[], number(host.files));
}

fn disks(sample: &Sample, text: &mut Text) {
    let mut family = text.counter("magpie_disk_bytes", "Bytes read from and written to whole disks");
    for disk in &sample.disks {
        family.value(&[("disk", &disk.name), ("direction", "read")], disk.read_bytes as f64);
        family.value(&[("disk", &disk.name), ("direction", "written")], disk.written_bytes as f64);
    }
    let mut family = text.counter("magpie_disk_busy_seconds", "Time during which a request was in progress");
    for disk in &sample.disks {
        family.value(&[("disk", &disk.name)], disk.busy_ms as f64 / 1e3);
    }
}

fn filesystems(sample: &Sample, text: &mut Text) {
    let mut family = text.gauge("magpie_filesystem_bytes", "File systems on local devices");
    for filesystem in &sample.filesystems {
        family.value(&[("mount", &filesystem.mount), ("kind", "total")], filesystem.total_bytes as f64);
        family.value(&[("mount", &filesystem.mount), ("kind", "free")], filesystem.free_bytes as f64);
    }
}

fn recorder(sample: &Sample, text: &mut Text) {
    text.info("magpie_recorder", "The flight recorder", &[("collector", sample.collector.name())]);
    text.gauge("magpie_recorder_last_sample_seconds", "Time of the newest sample, since the Unix epoch")
        .value(&[], sample.wall_ms as f64 / 1e3);
    text.gauge("magpie_recorder_late_seconds", "Delay of the newest sample")
        .value(&[], sample.late_ns as f64 / 1e9);
    text.gauge("magpie_recorder_sweep_seconds", "Time taken to read all processes for the newest sample")
        .value(&[], sample.sweep_ns as f64 / 1e9);
    text.counter("magpie_recorder_cpu_seconds", "CPU time of the recorder")
        .value(&[], sample.own_cpu_us as f64 / 1e6);
    text.counter("magpie_recorder_dropped_samples", "Samples that could not be stored")
        .value(&[], sample.dropped as f64);
    text.counter("magpie_recorder_lost_exits", "Lost messages about process exits")
        .some(&[], number(sample.exits_lost));
    text.gauge("magpie_recorder_processes", "Processes in the newest sample")
        .value(&[("kind", "seen")], sample.processes.len() as f64)
        .value(&[("kind", "listed")], sample.listed as f64);
}
