//! What each process did between two samples: rates, order, and the breaks in the record. Pure.
//!
//! The CPU share is that of the interval, not of the process's life as in `ps`: a process that worked all night and
//! is idle now shows 0. 100 % is one CPU.

mod time;

pub use time::parse_time;

use std::sync::Arc;

use jiff::Timestamp;
use proto::history::{BootId, Identity, Process, Sample};

/// Intervals without a sample from which on the log says that something is missing.
const GAP_INTERVALS: f64 = 1.75;

/// By what the processes of one sample are ordered, the largest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// CPU share of the interval.
    #[default]
    Cpu,
    /// Resident memory and swap together: what a thrashing host has pushed out still counts.
    Memory,
}

/// What to show.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query {
    /// Samples before are only used to compute rates.
    pub from: Option<Timestamp>,
    /// Samples after are ignored.
    pub until: Option<Timestamp>,
    /// Order within a sample.
    pub sort: Sort,
    /// Processes shown of each sample; all if absent.
    pub top: Option<usize>,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A process in one interval.
    Process(Box<ProcessEntry>),
    /// Why lines are missing here.
    Break(Break),
}

/// A process in one interval.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessEntry {
    /// When the sample was taken.
    pub at: Timestamp,
    /// The boot that the pid belongs to.
    pub boot_id: BootId,
    /// CPU share since the sample before, 100 for one CPU; absent if the process was not seen then but is older.
    pub cpu_percent: Option<f64>,
    /// Resident share of the memory that the host or container may use.
    pub memory_percent: Option<f64>,
    /// When the process started.
    pub started: Timestamp,
    /// The counters themselves.
    pub process: Process,
}

/// Why lines are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Break {
    /// No samples were taken for a while.
    Gap {
        /// The last sample before.
        from: Timestamp,
        /// The first sample after.
        until: Timestamp,
    },
    /// The host was started anew.
    Restart {
        /// The last sample before.
        from: Timestamp,
        /// The first sample after.
        until: Timestamp,
    },
    /// Stored samples cannot be read.
    Lost(String),
}

/// Turns samples, oldest first, into entries.
#[derive(Debug)]
pub struct CpuLog {
    query: Query,
    previous: Option<Sample>,
}

impl CpuLog {
    /// An empty log.
    pub fn new(query: Query) -> Self {
        Self { query, previous: None }
    }

    /// The entries of one more sample. The very first sample, and the first after a restart, have no processes:
    /// a rate takes two.
    pub fn push(&mut self, sample: Sample) -> Vec<Entry> {
        let mut entries = Vec::new();
        let at = timestamp(sample.wall_ms);
        let inside =
            self.query.from.is_none_or(|from| at >= from) && self.query.until.is_none_or(|until| at <= until);
        if let Some(previous) = self.previous.as_ref().filter(|_| inside) {
            entries.extend(find_break(previous, &sample).map(Entry::Break));
            if previous.boot_id == sample.boot_id {
                entries
                    .extend(self.processes(previous, &sample).into_iter().map(Box::new).map(Entry::Process));
            }
        }
        self.previous = Some(sample);
        entries
    }

    fn processes(&self, previous: &Sample, sample: &Sample) -> Vec<ProcessEntry> {
        let place = |(index, process)| entry(previous, sample, process, read_at(sample, index));
        let mut entries: Vec<_> = sample.processes.iter().enumerate().map(place).collect();
        let by_cpu = |entry: &ProcessEntry| entry.cpu_percent.unwrap_or(-1.0);
        let by_memory =
            |entry: &ProcessEntry| entry.process.resident_kib + entry.process.swap_kib.unwrap_or(0);
        entries.sort_by(|a, b| {
            let cpu = by_cpu(b).total_cmp(&by_cpu(a));
            let memory = by_memory(b).cmp(&by_memory(a));
            match self.query.sort {
                Sort::Cpu => cpu.then(memory),
                Sort::Memory => memory.then(cpu),
            }
        });
        entries.truncate(self.query.top.unwrap_or(usize::MAX));
        entries
    }
}

fn entry(previous: &Sample, sample: &Sample, process: &Process, read_at: u64) -> ProcessEntry {
    let limit = sample.host.memory_limit_kib().filter(|limit| *limit > 0);
    ProcessEntry {
        at: timestamp(sample.wall_ms),
        boot_id: sample.boot_id,
        cpu_percent: cpu_percent(previous, process, read_at),
        memory_percent: limit.map(|limit| 100.0 * process.resident_kib as f64 / limit as f64),
        started: started(sample, process.identity),
        process: process.clone(),
    }
}

/// CPU share since the sample before. A process that started since then has spent all its CPU time since then;
/// one with the same pid but another start is another process.
fn cpu_percent(previous: &Sample, process: &Process, now: u64) -> Option<f64> {
    let before = previous.processes.binary_search_by_key(&process.identity, |process| process.identity);
    let (spent, since) = match before {
        Ok(index) => {
            let since = read_at(previous, index);
            // The counters only grow; a smaller one would be the kernel's own correction.
            (process.cpu_ns().saturating_sub(previous.processes[index].cpu_ns()), since)
        }
        Err(_) if process.identity.started_ns >= previous.boottime_ns => {
            (process.cpu_ns(), previous.boottime_ns)
        }
        Err(_) => return None,
    };
    let elapsed = now.checked_sub(since).filter(|elapsed| *elapsed > 0)?;
    Some(100.0 * spent as f64 / elapsed as f64)
}

/// When the process at `index` was read, ns since boot: a sweep takes time, and on a struggling host much.
fn read_at(sample: &Sample, index: usize) -> u64 {
    let share = index as f64 / sample.processes.len().max(1) as f64;
    sample.boottime_ns.saturating_add((sample.sweep_ns as f64 * share) as u64)
}

fn find_break(previous: &Sample, sample: &Sample) -> Option<Break> {
    let (from, until) = (timestamp(previous.wall_ms), timestamp(sample.wall_ms));
    if previous.boot_id != sample.boot_id {
        return Some(Break::Restart { from, until });
    }
    let elapsed = sample.boottime_ns.saturating_sub(previous.boottime_ns) as f64;
    let interval = previous.interval_ns.max(sample.interval_ns) as f64;
    (elapsed > GAP_INTERVALS * interval).then_some(Break::Gap { from, until })
}

fn started(sample: &Sample, identity: Identity) -> Timestamp {
    let age_ms = sample.boottime_ns.saturating_sub(identity.started_ns) / 1_000_000;
    timestamp(sample.wall_ms.saturating_sub(i64::try_from(age_ms).unwrap_or(i64::MAX)))
}

fn timestamp(unix_ms: i64) -> Timestamp {
    let bounded = unix_ms.clamp(Timestamp::MIN.as_millisecond(), Timestamp::MAX.as_millisecond());
    Timestamp::from_millisecond(bounded).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// How a user is called in the log: by name if the host has one.
pub fn user_name(process: &Process) -> Arc<str> {
    match (&process.user, process.uid) {
        (Some(name), _) => Arc::clone(name),
        (None, Some(uid)) => uid.to_string().into(),
        (None, None) => "?".into(),
    }
}

#[cfg(test)]
mod tests {
    use proto::history::HostCounters;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn process(pid: u32, started_s: u64, cpu_ms: u64) -> Process {
        let identity = Identity { pid, started_ns: started_s * SECOND };
        Process { user_ns: cpu_ms * 1_000_000, resident_kib: 1_000, ..Process::bare(identity) }
    }

    fn sample(second: u64, processes: Vec<Process>) -> Sample {
        Sample {
            wall_ms: 1_310_515_942_000 + second as i64 * 1_000,
            boottime_ns: second * SECOND,
            interval_ns: SECOND,
            host: HostCounters { memory_total_kib: Some(100_000), ..HostCounters::default() },
            processes,
            ..Sample::default()
        }
    }

    fn shares(entries: &[Entry]) -> Vec<(u32, Option<i64>)> {
        let share = |entry: &Entry| match entry {
            Entry::Process(entry) => {
                Some((entry.process.identity.pid, entry.cpu_percent.map(|percent| percent.round() as i64)))
            }
            Entry::Break(_) => None,
        };
        entries.iter().filter_map(share).collect()
    }

    #[test]
    fn the_share_is_that_of_the_interval() {
        let mut log = CpuLog::new(Query::default());
        assert_eq!(log.push(sample(100, vec![process(1, 0, 90_000), process(2, 0, 0)])), []);
        let entries = log.push(sample(101, vec![process(1, 0, 90_000), process(2, 0, 1_500)]));
        assert_eq!(shares(&entries), [(2, Some(150)), (1, Some(0))]);
        let Entry::Process(first) = &entries[0] else { panic!("{entries:?}") };
        assert_eq!(first.memory_percent, Some(1.0));
        assert_eq!(first.started.as_second(), 1_310_515_942);
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let mut log = CpuLog::new(Query::default());
        log.push(sample(100, vec![process(7, 50, 60_000)]));
        let entries = log.push(sample(101, vec![process(7, 100, 250)]));
        assert_eq!(shares(&entries), [(7, Some(25))]);
    }

    #[test]
    fn an_old_process_seen_for_the_first_time_has_no_share() {
        let mut log = CpuLog::new(Query::default());
        log.push(sample(100, vec![]));
        assert_eq!(shares(&log.push(sample(101, vec![process(7, 50, 60_000)]))), [(7, None)]);
    }

    #[test]
    fn a_slow_sweep_does_not_bend_the_shares() {
        let mut log = CpuLog::new(Query::default());
        let mut slow = sample(100, vec![process(1, 0, 0), process(2, 0, 0)]);
        slow.sweep_ns = SECOND;
        log.push(slow);
        // The second process was read at 100.5, so it has worked for half of the half second since then.
        let entries = log.push(sample(101, vec![process(1, 0, 250), process(2, 0, 250)]));
        assert_eq!(shares(&entries), [(2, Some(50)), (1, Some(25))]);
    }

    #[test]
    fn a_gap_is_told_and_the_shares_span_it() {
        let mut log = CpuLog::new(Query::default());
        log.push(sample(100, vec![process(1, 0, 0)]));
        let entries = log.push(sample(110, vec![process(1, 0, 5_000)]));
        let [Entry::Break(Break::Gap { from, until }), _] = entries.as_slice() else { panic!("{entries:?}") };
        assert_eq!(until.as_second() - from.as_second(), 10);
        assert_eq!(shares(&entries), [(1, Some(50))]);
    }

    #[test]
    fn nothing_is_computed_across_a_restart() {
        let mut log = CpuLog::new(Query::default());
        log.push(sample(100, vec![process(1, 0, 0)]));
        let rebooted = Sample { boot_id: BootId([1; 16]), ..sample(101, vec![process(1, 0, 9_000)]) };
        let entries = log.push(rebooted);
        assert!(matches!(entries.as_slice(), [Entry::Break(Break::Restart { .. })]), "{entries:?}");
    }

    #[test]
    fn the_window_the_order_and_the_count_are_kept() {
        let big = Process { swap_kib: Some(50_000), ..process(3, 0, 0) };
        let at = |second| {
            sample(second, vec![process(1, 0, second * 10), process(2, 0, second * 20), big.clone()])
        };
        let from = Timestamp::from_millisecond(at(102).wall_ms).unwrap();
        for (sort, expected) in [(Sort::Cpu, 2), (Sort::Memory, 3)] {
            let query = Query { from: Some(from), until: Some(from), sort, top: Some(1) };
            let mut log = CpuLog::new(query);
            let entries: Vec<_> = (100..105).flat_map(|second| log.push(at(second))).collect();
            assert_eq!(shares(&entries).iter().map(|(pid, _)| *pid).collect::<Vec<_>>(), [expected]);
        }
    }
}
