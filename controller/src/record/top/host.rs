//! The host's activity between two samples, as shares and rates.

use std::sync::Arc;

use record::{Disk, HostCounters, OwnMemory, Sample};

/// The host's activity in one interval, and its memory and swap at the end.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HostRates {
    /// The host is a container on a machine: CPU and disk values are machine-wide, and so are swap and pressure unless
    /// marked as the host's own.
    pub is_part: bool,
    /// CPU time by kind.
    pub cpu: Option<CpuShares>,
    /// The host's own memory.
    pub memory: Option<OwnMemory>,
    /// Processes and threads.
    pub tasks: Tasks,
    /// Swap.
    pub swap: Option<Swap>,
    /// Pressure stalls.
    pub pressure: Pressure,
    /// Busy share of each disk in percent, the busiest first.
    pub disks: Vec<(Arc<str>, f64)>,
    /// The recorder's own CPU share, percent of one CPU.
    pub own_percent: Option<f64>,
}

/// Shares of the time of all CPUs, in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct CpuShares {
    /// User mode.
    pub user: f64,
    /// Kernel mode, including interrupts.
    pub system: f64,
    /// Idle while a disk request was outstanding.
    pub iowait: f64,
    /// Taken by the hypervisor for other guests.
    pub steal: f64,
}

impl CpuShares {
    /// User and system time.
    pub(crate) fn busy(&self) -> f64 {
        self.user + self.system
    }
}

/// Processes and threads of the host; in a container, as far as the sample shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tasks {
    /// All tasks.
    pub all: Option<u64>,
    /// Runnable.
    pub running: Option<u64>,
    /// Blocked on I/O.
    pub blocked: Option<u64>,
}

/// Swap.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Swap {
    /// The sizes are the host's own. In a container, the rates are always machine-wide.
    pub is_own: bool,
    /// Total size, KiB.
    pub total_kib: u64,
    /// Swap in use, KiB.
    pub used_kib: u64,
    /// Swapped in, KiB per second.
    pub in_rate: Option<f64>,
    /// Swapped out, KiB per second.
    pub out_rate: Option<f64>,
}

/// Pressure stall information (the kernel's psi.rst), percent of the interval. The kernel accounts it slightly late, so
/// values above 100 are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pressure {
    /// Some task waited for a CPU.
    pub cpu_some: Option<f64>,
    /// Some task waited for memory.
    pub memory_some: Option<f64>,
    /// All tasks waited for memory.
    pub memory_full: Option<f64>,
    /// Memory pressure is the host's own, not machine-wide.
    pub memory_is_own: bool,
    /// Some task waited for I/O.
    pub io_some: Option<f64>,
    /// All tasks waited for I/O.
    pub io_full: Option<f64>,
}

type Counter = fn(&HostCounters) -> Option<u64>;

impl HostRates {
    /// Rates between two samples; without a previous sample, only sizes.
    pub(crate) fn of(previous: Option<&Sample>, sample: &Sample) -> Self {
        let sizes = Self {
            is_part: sample.is_part_of_machine(),
            memory: sample.own_memory(),
            tasks: tasks(sample),
            swap: swap(None, sample),
            ..Self::default()
        };
        let Some(previous) = previous else { return sizes };
        let elapsed_us = sample.boottime_ns.saturating_sub(previous.boottime_ns) as f64 / 1e3;
        let grown = |counter: Counter| grown(counter, &previous.host, &sample.host);
        let own = sample.own_cpu_us.checked_sub(previous.own_cpu_us);
        Self {
            cpu: cpu(&previous.host, &sample.host),
            swap: swap(Some(&|counter| Some(grown(counter)? * 1e6 / elapsed_us)), sample),
            pressure: pressure(&|counter| Some((100.0 * grown(counter)? / elapsed_us).min(100.0)), sample),
            disks: disks(&previous.disks, &sample.disks, elapsed_us),
            own_percent: own.map(|own| 100.0 * own as f64 / elapsed_us),
            ..sizes
        }
    }
}

fn grown(counter: Counter, before: &HostCounters, now: &HostCounters) -> Option<f64> {
    Some(counter(now)?.checked_sub(counter(before)?)? as f64)
}

fn cpu(before: &HostCounters, now: &HostCounters) -> Option<CpuShares> {
    // Iowait and steal may decrease (proc_stat(5)): count that as 0.
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

/// The kernel's task counters are machine-wide; in a container, count by control group, or by processes.
fn tasks(sample: &Sample) -> Tasks {
    let host = &sample.host;
    if !sample.is_part_of_machine() {
        return Tasks { all: host.tasks, running: host.running, blocked: host.blocked };
    }
    let count = |state| sample.processes.iter().filter(|process| process.state == state).count() as u64;
    let threads = || sample.processes.iter().map(|process| u64::from(process.threads)).sum();
    Tasks {
        all: host.cgroup_tasks.or_else(|| Some(threads())),
        running: Some(count(b'R')),
        blocked: Some(count(b'D')),
    }
}

fn swap(rate: Option<&dyn Fn(Counter) -> Option<f64>>, sample: &Sample) -> Option<Swap> {
    let host = &sample.host;
    let (mut total_kib, mut used_kib) = (host.swap_total_kib?, 0);
    let mut is_own = !sample.is_part_of_machine();
    if let Some(free) = host.swap_free_kib {
        used_kib = total_kib.saturating_sub(free);
    }
    if let (false, Some(used)) = (is_own, host.cgroup_swap_used_kib) {
        used_kib = used;
        total_kib = total_kib.min(host.cgroup_swap_limit_kib.unwrap_or(u64::MAX));
        is_own = true;
    }
    Some(Swap {
        is_own,
        total_kib,
        used_kib,
        in_rate: rate.and_then(|rate| rate(|host| host.swap_in_kib)),
        out_rate: rate.and_then(|rate| rate(|host| host.swap_out_kib)),
    })
}

fn pressure(share: &dyn Fn(Counter) -> Option<f64>, sample: &Sample) -> Pressure {
    let part = sample.is_part_of_machine();
    let own = part && sample.host.cgroup_pressure_memory_some_us.is_some();
    let memory = |of_group: Counter, of_host: Counter| share(if own { of_group } else { of_host });
    Pressure {
        cpu_some: share(|host| host.pressure_cpu_some_us),
        memory_some: memory(|h| h.cgroup_pressure_memory_some_us, |h| h.pressure_memory_some_us),
        memory_full: memory(|h| h.cgroup_pressure_memory_full_us, |h| h.pressure_memory_full_us),
        memory_is_own: own || !part,
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
