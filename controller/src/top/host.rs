//! What the host as a whole did between two samples, as shares and rates.

use std::sync::Arc;

use proto::history::{Disk, HostCounters, Sample};

/// What the host did in one interval, and how full it was at its end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostRates {
    /// Where the CPUs' time went.
    pub cpu: Option<CpuShares>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Swap.
    pub swap: Option<Swap>,
    /// How much waiting there was.
    pub pressure: Pressure,
    /// Busy share of each disk in percent, the busiest first.
    pub disks: Vec<(Arc<str>, f64)>,
    /// The recorder's own CPU share, percent of one CPU.
    pub own_percent: Option<f64>,
}

/// Shares of the time of all CPUs, in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuShares {
    /// In programs.
    pub user: f64,
    /// In the kernel, for programs and devices.
    pub system: f64,
    /// Idle while a disk request was outstanding.
    pub iowait: f64,
    /// Given to others by the hypervisor.
    pub steal: f64,
}

impl CpuShares {
    /// Time in which something ran here.
    pub fn busy(&self) -> f64 {
        self.user + self.system
    }
}

/// Memory, KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What processes can have: the container's limit if there is one.
    pub limit_kib: u64,
    /// What cannot be had without taking it from a process; a container's includes its cache.
    pub used_kib: u64,
    /// What the kernel would give back; not known of a container.
    pub cache_kib: u64,
    /// The limit is that of a control group.
    pub container: bool,
}

/// Swap.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Swap {
    /// Its size, KiB.
    pub total_kib: u64,
    /// How much of it is in use, KiB.
    pub used_kib: u64,
    /// KiB read back a second.
    pub in_rate: Option<f64>,
    /// KiB written a second.
    pub out_rate: Option<f64>,
}

/// Pressure stall information (the kernel's psi.rst): percent of the interval; the kernel books it a little late, so that
/// more than 100 is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Some task waited for a CPU.
    pub cpu_some: Option<f64>,
    /// Some task waited for memory.
    pub memory_some: Option<f64>,
    /// All tasks waited for memory.
    pub memory_full: Option<f64>,
    /// Some task waited for I/O.
    pub io_some: Option<f64>,
    /// All tasks waited for I/O.
    pub io_full: Option<f64>,
}

type Counter = fn(&HostCounters) -> Option<u64>;

impl HostRates {
    /// Of one sample; without a sample before it there are sizes, but no rates.
    pub fn of(previous: Option<&Sample>, sample: &Sample) -> Self {
        let Some(previous) = previous else {
            return Self { memory: memory(&sample.host), swap: swap(None, &sample.host), ..Self::default() };
        };
        let elapsed_us = sample.boottime_ns.saturating_sub(previous.boottime_ns) as f64 / 1e3;
        let grown = |counter: Counter| grown(counter, &previous.host, &sample.host);
        let own = sample.own_cpu_us.checked_sub(previous.own_cpu_us);
        Self {
            cpu: cpu(&previous.host, &sample.host),
            memory: memory(&sample.host),
            swap: swap(Some(&|counter| Some(grown(counter)? * 1e6 / elapsed_us)), &sample.host),
            pressure: pressure(
                &|counter| Some((100.0 * grown(counter)? / elapsed_us).min(100.0)),
                &sample.host,
            ),
            disks: disks(&previous.disks, &sample.disks, elapsed_us),
            own_percent: own.map(|own| 100.0 * own as f64 / elapsed_us),
        }
    }
}

fn grown(counter: Counter, before: &HostCounters, now: &HostCounters) -> Option<f64> {
    Some(counter(now)?.checked_sub(counter(before)?)? as f64)
}

fn cpu(before: &HostCounters, now: &HostCounters) -> Option<CpuShares> {
    // Iowait and steal may run backwards (proc_stat(5)): then there was none.
    let spent = |counter: Counter| Some(counter(now)?.saturating_sub(counter(before)?) as f64);
    let sum = |counters: &[Counter]| counters.iter().filter_map(|counter| spent(*counter)).sum::<f64>();
    let idle = spent(|host| host.cpu_idle_ns)?;
    let user = sum(&[|host| host.cpu_user_ns, |host| host.cpu_nice_ns]);
    let system = sum(&[|host| host.cpu_system_ns, |host| host.cpu_irq_ns, |host| host.cpu_softirq_ns]);
    let (iowait, steal) = (sum(&[|host| host.cpu_iowait_ns]), sum(&[|host| host.cpu_steal_ns]));
    let total = user + system + iowait + steal + idle;
    let share = |part: f64| 100.0 * part / total;
    (total > 0.0).then(|| CpuShares {
        user: share(user),
        system: share(system),
        iowait: share(iowait),
        steal: share(steal),
    })
}

fn memory(host: &HostCounters) -> Option<Memory> {
    let limit_kib = host.memory_limit_kib().filter(|limit| *limit > 0)?;
    if is_container(host) {
        let used_kib = host.cgroup_used_kib?;
        return Some(Memory { limit_kib, used_kib, cache_kib: 0, container: true });
    }
    let available = host.memory_available_kib.or(host.memory_free_kib)?;
    let cache_kib = available.saturating_sub(host.memory_free_kib.unwrap_or(available));
    Some(Memory { limit_kib, used_kib: limit_kib.saturating_sub(available), cache_kib, container: false })
}

/// Whether the limit of the recorder's control group is the one that counts.
fn is_container(host: &HostCounters) -> bool {
    let total = host.memory_total_kib.unwrap_or(u64::MAX);
    host.cgroup_limit_kib.is_some_and(|limit| limit < total) && host.cgroup_used_kib.is_some()
}

fn swap(rate: Option<&dyn Fn(Counter) -> Option<f64>>, host: &HostCounters) -> Option<Swap> {
    let (mut total_kib, mut used_kib) = (host.swap_total_kib?, 0);
    if let Some(free) = host.swap_free_kib {
        used_kib = total_kib.saturating_sub(free);
    }
    if let (true, Some(used)) = (is_container(host), host.cgroup_swap_used_kib) {
        used_kib = used;
        total_kib = total_kib.min(host.cgroup_swap_limit_kib.unwrap_or(u64::MAX));
    }
    Some(Swap {
        total_kib,
        used_kib,
        in_rate: rate.and_then(|rate| rate(|host| host.swap_in_kib)),
        out_rate: rate.and_then(|rate| rate(|host| host.swap_out_kib)),
    })
}

fn pressure(share: &dyn Fn(Counter) -> Option<f64>, host: &HostCounters) -> Pressure {
    let own = is_container(host);
    let memory = |of_group: Counter, of_host: Counter| {
        let group = if own { share(of_group) } else { None };
        group.or_else(|| share(of_host))
    };
    Pressure {
        cpu_some: share(|host| host.pressure_cpu_some_us),
        memory_some: memory(|h| h.cgroup_pressure_memory_some_us, |h| h.pressure_memory_some_us),
        memory_full: memory(|h| h.cgroup_pressure_memory_full_us, |h| h.pressure_memory_full_us),
        io_some: share(|host| host.pressure_io_some_us),
        io_full: share(|host| host.pressure_io_full_us),
    }
}

fn disks(before: &[Disk], now: &[Disk], elapsed_us: f64) -> Vec<(Arc<str>, f64)> {
    let busy = |disk: &Disk| {
        let before = before.iter().find(|before| before.name == disk.name)?;
        let busy_ms = disk.busy_ms.checked_sub(before.busy_ms)?;
        Some((Arc::clone(&disk.name), (100_000.0 * busy_ms as f64 / elapsed_us).min(100.0)))
    };
    let mut disks: Vec<_> = now.iter().filter_map(busy).collect();
    disks.sort_by(|a, b| b.1.total_cmp(&a.1));
    disks
}
