//! The host from one sample to the next: shares of time and of capacity, only of what is the host's own.

use std::sync::Arc;

use record::{BootId, Group, GroupCounters, HostCounters, OwnMemory, Sample};

/// The interval between two samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Beat {
    /// Its end, ns since boot.
    pub(super) at_ns: u64,
    /// Its end, ms since the Unix epoch.
    pub(super) wall_ms: i64,
    /// Its length.
    pub(super) seconds: f64,
    /// Share of CPU time in use, and in use by the kernel.
    pub(super) busy: Option<f64>,
    pub(super) system: Option<f64>,
    /// Share of CPU time that the hypervisor gave to others.
    pub(super) steal: Option<f64>,
    /// Shares of time in which some or all tasks waited.
    pub(super) cpu_some: Option<f64>,
    pub(super) memory_full: Option<f64>,
    pub(super) io_some: Option<f64>,
    pub(super) io_full: Option<f64>,
    /// Memory of the host.
    pub(super) memory: Option<OwnMemory>,
    /// Swap in use and its size, KiB.
    pub(super) swap_kib: Option<(u64, u64)>,
    /// Shared memory, KiB.
    pub(super) shmem_kib: Option<u64>,
    /// File pages read again per second.
    pub(super) refaults: f64,
    /// Kills because memory ran out on this host.
    pub(super) kills: u64,
    /// Processes and threads, and their maximum.
    pub(super) tasks: Option<(u64, u64)>,
    /// Open files, and their maximum.
    pub(super) files: Option<(u64, u64)>,
    /// Delay of the sample, ms.
    pub(super) late_ms: u64,
    /// Units that reached a limit of their own.
    pub(super) units: Vec<UnitBeat>,
    /// File systems: the mount point, bytes free and in all.
    pub(super) filesystems: Vec<(Arc<str>, u64, u64)>,
}

/// A unit between two readings of its counters, if it reached a limit.
#[derive(Clone, Debug)]
pub(super) struct UnitBeat {
    /// Path of the control group.
    pub(super) path: Arc<str>,
    /// Time between the two readings.
    pub(super) seconds: f64,
    /// Kills at its own limit.
    pub(super) kills: u64,
    /// Share of time in which all its tasks waited for memory, and how often use reached the limit.
    pub(super) memory_full: Option<f64>,
    pub(super) limit_events: u64,
    /// Attempts to create a task that failed.
    pub(super) refused: u64,
    /// Share of time in which it had to stop because of its CPU limit.
    pub(super) throttled: f64,
}

/// Makes beats of samples.
#[derive(Debug, Default)]
pub(super) struct Beats {
    boot_id: BootId,
    before: Option<Before>,
    groups: Vec<Group>,
    /// Pressure and CPU use of a part of a machine, which are read less often than samples are taken.
    part: Part,
}

#[derive(Debug)]
struct Before {
    at_ns: u64,
    host: HostCounters,
    kills: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    busy: Option<f64>,
    cpu_some: Option<f64>,
    io_some: Option<f64>,
    io_full: Option<f64>,
}

impl Beats {
    /// The beat that ends with this sample; `None` for the first sample of a boot.
    pub(super) fn push(&mut self, sample: &Sample) -> Option<Beat> {
        if self.boot_id != sample.boot_id {
            *self = Self { boot_id: sample.boot_id, ..Self::default() };
        }
        let now = Before { at_ns: sample.boottime_ns, host: sample.host, kills: sample.own_kills() };
        let before = self.before.replace(now);
        let units = self.units(sample);
        let before = before?;
        let elapsed_ns = sample.boottime_ns.checked_sub(before.at_ns).filter(|elapsed| *elapsed > 0)?;
        Some(self.between(&before, sample, elapsed_ns, units))
    }

    fn between(&self, before: &Before, sample: &Sample, elapsed_ns: u64, units: Vec<UnitBeat>) -> Beat {
        let (then, now) = (&before.host, &sample.host);
        let is_part = sample.is_part_of_machine();
        let elapsed_us = elapsed_ns as f64 / 1e3;
        let share = |before: Option<u64>, now: Option<u64>| {
            Some((now?.checked_sub(before?)? as f64 / elapsed_us).min(1.0))
        };
        let own = |before, now| if is_part { None } else { share(before, now) };
        let cpu = Cpu::between(then, now).filter(|_| !is_part);
        let (memory_then, memory_now) = if is_part {
            (then.cgroup_pressure_memory_full_us, now.cgroup_pressure_memory_full_us)
        } else {
            (then.pressure_memory_full_us, now.pressure_memory_full_us)
        };
        let refaults = |host: &HostCounters| host.refault_file.filter(|_| !is_part).unwrap_or(0);
        Beat {
            at_ns: sample.boottime_ns,
            wall_ms: sample.wall_ms,
            seconds: elapsed_ns as f64 / 1e9,
            busy: cpu.map(|cpu| cpu.busy).or(self.part.busy),
            system: cpu.map(|cpu| cpu.system),
            steal: cpu.map(|cpu| cpu.steal),
            cpu_some: own(then.pressure_cpu_some_us, now.pressure_cpu_some_us).or(self.part.cpu_some),
            memory_full: share(memory_then, memory_now),
            io_some: own(then.pressure_io_some_us, now.pressure_io_some_us).or(self.part.io_some),
            io_full: own(then.pressure_io_full_us, now.pressure_io_full_us).or(self.part.io_full),
            memory: sample.own_memory(),
            swap_kib: swap(sample),
            shmem_kib: if is_part { now.cgroup_shmem_kib } else { now.shmem_kib },
            refaults: refaults(now).saturating_sub(refaults(then)) as f64 * 1e9 / elapsed_ns as f64,
            kills: sample.own_kills().zip(before.kills).map_or(0, |(now, then)| now.saturating_sub(then)),
            tasks: tasks(sample),
            files: now.files.zip(now.files_limit).filter(|_| !is_part),
            late_ms: sample.late_ns / 1_000_000,
            units,
            filesystems: sample
                .filesystems
                .iter()
                .map(|fs| (Arc::clone(&fs.mount), fs.free_bytes, fs.total_bytes))
                .collect(),
        }
    }

    /// Units whose counters were read again since the last sample, and show that a limit was reached.
    fn units(&mut self, sample: &Sample) -> Vec<UnitBeat> {
        let mut units = Vec::new();
        if self.groups.iter().map(read_ns).eq(sample.groups.iter().map(read_ns)) {
            return units;
        }
        let cpus = sample.host.cpus.unwrap_or(1).max(1) as f64;
        for group in &sample.groups {
            let Some(before) = self.groups.iter().find(|before| before.path == group.path) else { continue };
            let (then, now) = (&before.counters, &group.counters);
            let Some(elapsed_ns) =
                read_ns(group).zip(read_ns(before)).and_then(|(now, then)| now.checked_sub(then))
            else {
                continue;
            };
            if elapsed_ns == 0 {
                continue;
            }
            let grown =
                |field: fn(&GroupCounters) -> Option<u64>| Some(field(now)?.saturating_sub(field(then)?));
            let share = |field| grown(field).map(|us| (us as f64 * 1e3 / elapsed_ns as f64).min(1.0));
            if *group.path == *"/" {
                self.part = Part {
                    busy: grown(|group| group.cpu_us).map(|us| us as f64 * 1e3 / elapsed_ns as f64 / cpus),
                    cpu_some: share(|group| group.pressure_cpu_some_us),
                    io_some: share(|group| group.pressure_io_some_us),
                    io_full: share(|group| group.pressure_io_full_us),
                };
                continue;
            }
            let reached = grown(|group| group.oom_events).or_else(|| grown(|group| group.limit_events));
            let at_limit = now.limit_kib.is_some() && reached.is_some_and(|events| events > 0);
            let unit = UnitBeat {
                path: Arc::clone(&group.path),
                seconds: elapsed_ns as f64 / 1e9,
                // The group's counter includes kills because the whole host ran out of memory.
                kills: grown(|group| group.oom_kills).filter(|_| at_limit).unwrap_or(0),
                memory_full: share(|group| group.pressure_memory_full_us).filter(|_| now.limit_kib.is_some()),
                limit_events: grown(|group| group.limit_events).unwrap_or(0),
                refused: grown(|group| group.tasks_refused).unwrap_or(0),
                throttled: share(|group| group.throttled_us)
                    .filter(|_| now.cpu_limit_permille.is_some())
                    .unwrap_or(0.0),
            };
            if unit.kills > 0 || unit.limit_events > 0 || unit.refused > 0 || unit.throttled > 0.0 {
                units.push(unit);
            }
        }
        self.groups.clone_from(&sample.groups);
        units
    }
}

fn read_ns(group: &Group) -> Option<u64> {
    group.counters.read_ns
}

/// Swap in use and its size, KiB: a part's own if it is known.
fn swap(sample: &Sample) -> Option<(u64, u64)> {
    let host = &sample.host;
    if sample.is_part_of_machine() {
        return host.cgroup_swap_used_kib.zip(host.cgroup_swap_limit_kib);
    }
    let (total, free) = host.swap_total_kib.zip(host.swap_free_kib)?;
    (total > 0).then_some((total.saturating_sub(free), total))
}

/// Processes and threads, and their maximum.
fn tasks(sample: &Sample) -> Option<(u64, u64)> {
    let host = &sample.host;
    if let Some(own) = host.cgroup_tasks.zip(host.cgroup_tasks_limit) {
        return Some(own);
    }
    let most = host.tasks_limit.into_iter().chain(host.pids_limit).min()?;
    Some((host.tasks?, most)).filter(|_| !sample.is_part_of_machine())
}

/// Shares of CPU time.
#[derive(Clone, Copy, Debug)]
struct Cpu {
    busy: f64,
    system: f64,
    steal: f64,
}

impl Cpu {
    fn between(then: &HostCounters, now: &HostCounters) -> Option<Self> {
        let grown =
            |field: fn(&HostCounters) -> Option<u64>| Some(field(now)?.saturating_sub(field(then)?) as f64);
        let user = grown(|host| host.cpu_user_ns)? + grown(|host| host.cpu_nice_ns).unwrap_or(0.0);
        let of_kernel: [fn(&HostCounters) -> Option<u64>; 3] =
            [|host| host.cpu_system_ns, |host| host.cpu_irq_ns, |host| host.cpu_softirq_ns];
        let system: f64 = of_kernel.into_iter().filter_map(grown).sum();
        let idle = grown(|host| host.cpu_idle_ns)? + grown(|host| host.cpu_iowait_ns).unwrap_or(0.0);
        let steal = grown(|host| host.cpu_steal_ns).unwrap_or(0.0);
        let all = user + system + idle + steal;
        (all > 0.0).then(|| Self { busy: (user + system) / all, system: system / all, steal: steal / all })
    }
}
