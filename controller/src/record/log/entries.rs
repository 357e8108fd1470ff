//! Turns samples into log entries.

use jiff::Timestamp;
use record::{BootId, Event, EventKind, Exit, ExitGroup, Process, Sample, Sources};

use crate::record::{
    breaks::{self, Break},
    marks::{Marks, RunMark},
    query::Query,
    rates::{Before, Rates},
    selection::descending,
    time::{started, timestamp, timestamp_at},
};

/// Smaller shares are shown as 0.0 %.
const NO_PERCENT: f64 = 0.05;

/// Whether a process was idle in the interval: no CPU time, no wait for a CPU or disk, no known I/O, and not new. A
/// process with an unknown CPU share is not idle.
fn is_idle(process: &Process, rates: &Rates, since_ns: u64) -> bool {
    let none = |rate: Option<f64>, least: f64| rate.is_none_or(|rate| rate < least);
    rates.cpu_percent.is_some_and(|percent| percent < NO_PERCENT)
        && none(rates.wait_percent, NO_PERCENT)
        && none(rates.major_faults, f64::MIN_POSITIVE)
        && none(rates.io_bytes(), f64::MIN_POSITIVE)
        && process.state != b'D'
        && process.identity.started_ns < since_ns
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry<'a> {
    /// A process in one interval.
    Process(ProcessEntry<'a>),
    /// A break in the record.
    Break(Break),
    /// A process exited.
    Exit(Timestamp, &'a Exit),
    /// Short-lived processes with the same name and parent exited.
    ExitGroup(Timestamp, &'a ExitGroup),
    /// Number of further exits that are not shown.
    MoreExits(Timestamp, u64),
    /// A kernel message.
    Kernel(Timestamp, &'a str),
    /// Out-of-memory kills on a host without a kernel log, which only a counter shows.
    Kills {
        /// The sample that shows them.
        at: Timestamp,
        /// The sample before: the earliest possible time.
        earliest: Timestamp,
        /// Number of kills.
        count: u64,
    },
    /// A note from the recorder.
    Note(Timestamp, &'a str),
    /// A run started or ended.
    Run(RunMark),
}

/// A process in one interval.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProcessEntry<'a> {
    /// Wall time of the sample.
    pub at: Timestamp,
    /// The boot that the pid belongs to.
    pub boot_id: BootId,
    /// Activity since the previous sample.
    pub rates: Rates,
    /// Resident memory in percent of the host's or container's limit.
    pub memory_percent: Option<f64>,
    /// Start time of the process.
    pub started: Timestamp,
    /// The counters.
    pub process: &'a Process,
}

/// Turns samples, oldest first, into entries.
#[derive(Debug)]
pub(crate) struct Log {
    query: Query,
    before: Option<Before>,
    marks: Marks,
    seen: bool,
    /// Samples arrive live.
    following: bool,
    /// Whether any process or exit in the window matched the selection.
    matched: bool,
    /// Selected process ids that occurred in the window.
    found: Vec<u32>,
    /// Number of process entries.
    shown: u64,
    /// Indices of the selected processes; a buffer that is reused.
    places: Vec<usize>,
}

impl Log {
    /// An empty log, with the runs to show in it.
    pub(crate) fn new(query: Query, marks: Marks) -> Self {
        Self {
            query,
            before: None,
            marks,
            seen: false,
            following: false,
            matched: false,
            found: Vec::new(),
            shown: 0,
            places: Vec::new(),
        }
    }

    /// Shows all samples after the first one in the window, even if the clock is set back before the window.
    pub(crate) fn follow(&mut self) {
        self.following = true;
    }

    fn wants(&self, at: Timestamp) -> bool {
        let goes_on = self.following && self.seen && self.query.until.is_none_or(|until| at <= until);
        goes_on || self.query.spans(at)
    }

    /// Whether any process or exit in the window matched the selection.
    pub(crate) fn has_matched(&self) -> bool {
        self.matched
    }

    /// Selected process ids that occur in no sample and no exit of the window.
    pub(crate) fn missing_pids(&self) -> Vec<u32> {
        let is_missing = |pid: &&u32| !self.found.contains(pid);
        self.query.selection.pids.iter().filter(is_missing).copied().collect()
    }

    /// Number of process entries so far.
    pub(crate) fn shown(&self) -> u64 {
        self.shown
    }

    /// The entries of the next sample. The first sample, and the first after a restart, yield no processes: a rate needs
    /// two samples.
    pub(crate) fn push<'a>(&mut self, sample: &'a Sample) -> Vec<Entry<'a>> {
        let at = timestamp(sample.wall_ms);
        let mut entries = Vec::new();
        self.query.selection.places(&sample.processes, &mut self.places);
        if self.wants(at) {
            self.seen = true;
            self.look_for(sample);
            self.describe(sample, at, &mut entries);
        } else {
            self.marks.skip_until(at);
        }
        self.before.get_or_insert_default().keep_of(sample, self.places.iter().copied());
        entries
    }

    /// Notes which selected processes occur in a sample.
    fn look_for(&mut self, sample: &Sample) {
        let selection = &self.query.selection;
        let exits = || sample.exits.iter().filter(|exit| selection.admits_exit(exit, sample));
        if !selection.pids.is_empty() {
            let pids = self.places.iter().map(|place| sample.processes[*place].identity.pid);
            let pids: Vec<_> = pids.chain(exits().map(|exit| exit.identity.pid)).collect();
            let new = pids.into_iter().filter(|pid| !self.found.contains(pid)).collect::<Vec<_>>();
            self.found.extend(new);
        }
        if !self.matched {
            let mut processes = self.places.iter().map(|place| &sample.processes[*place]);
            self.matched = processes.any(|process| selection.admits(process))
                || exits().next().is_some()
                || sample.exit_groups.iter().any(|group| selection.admits_group(group));
        }
    }

    /// Call when samples without matching processes were skipped: this is no gap, and no rate spans it.
    pub(crate) fn skip(&mut self) {
        self.before = None;
    }

    /// The remaining entries after the last sample.
    pub(crate) fn finish(&mut self) -> Vec<Entry<'static>> {
        if !self.seen {
            return Vec::new();
        }
        let until = self.query.until.unwrap_or(Timestamp::MAX);
        self.marks.until(until).map(Entry::Run).collect()
    }

    fn describe<'a>(&mut self, sample: &'a Sample, at: Timestamp, entries: &mut Vec<Entry<'a>>) {
        if let Some(before) = &self.before {
            entries.extend(breaks::between(before, sample).into_iter().map(Entry::Break));
        }
        entries.extend(self.marks.until(at).map(Entry::Run));
        self.events(sample, at, entries);
        self.exits(sample, at, entries);
        if let Some(before) = self.before.as_ref().filter(|before| before.boot_id == sample.boot_id) {
            let others = entries.len();
            self.processes(before, sample, at, entries);
            self.shown += (entries.len() - others) as u64;
        }
    }

    fn events<'a>(&self, sample: &'a Sample, at: Timestamp, entries: &mut Vec<Entry<'a>>) {
        entries.extend(sample.events.iter().filter_map(|Event { at_ns, kind, text }| {
            let at = timestamp_at(sample, *at_ns);
            match kind {
                EventKind::Kernel => Some(Entry::Kernel(at, text)),
                EventKind::Note => Some(Entry::Note(at, text)),
                // Only a diagnosis reads these: twenty lines a second would hide the processes.
                EventKind::Stacks => None,
            }
        }));
        let before = self.before.as_ref().filter(|before| before.boot_id == sample.boot_id);
        if let Some(before) = before
            && !sample.sources.has(Sources::KERNEL_LOG)
            && let (Some(kills_before), Some(kills)) = (before.own_kills, sample.own_kills())
            && kills > kills_before
        {
            let earliest = timestamp_at(sample, before.boottime_ns);
            entries.push(Entry::Kills { at, earliest, count: kills - kills_before });
        }
    }

    /// At most `top` exits, those with the most CPU time; the rest is counted.
    fn exits<'a>(&self, sample: &'a Sample, at: Timestamp, entries: &mut Vec<Entry<'a>>) {
        let selection = &self.query.selection;
        let mut exits: Vec<_> =
            sample.exits.iter().filter(|exit| selection.admits_exit(exit, sample)).collect();
        let top = self.query.top.unwrap_or(usize::MAX);
        let mut more = exits.len().saturating_sub(top) as u64;
        if more > 0 {
            exits.sort_by_key(|exit| std::cmp::Reverse(exit.user_us.saturating_add(exit.system_us)));
            exits.truncate(top);
        }
        exits.sort_by_key(|exit| exit.at_ns);
        entries.extend(exits.iter().map(|exit| Entry::Exit(timestamp_at(sample, exit.at_ns), exit)));
        let groups = sample.exit_groups.iter().filter(|group| selection.admits_group(group));
        for (index, group) in groups.enumerate() {
            if index < top {
                entries.push(Entry::ExitGroup(at, group));
            } else {
                more = more.saturating_add(group.count);
            }
        }
        if more > 0 {
            entries.push(Entry::MoreExits(at, more));
        }
    }

    fn processes<'a>(
        &self,
        before: &Before,
        sample: &'a Sample,
        at: Timestamp,
        entries: &mut Vec<Entry<'a>>,
    ) {
        let selection = &self.query.selection;
        let everything = selection.is_everything();
        let rates = before.rates_of(sample, self.places.iter().copied());
        let looked_at = self.places.iter().map(|place| &sample.processes[*place]).zip(rates);
        let busy_only = self.query.busy_only;
        let wanted: Vec<_> = looked_at
            .filter(|(process, _)| everything || selection.admits(process))
            .filter(|(process, rates)| !busy_only || !is_idle(process, rates, before.boottime_ns))
            .collect();
        let limit = sample.host.memory_limit_kib().filter(|limit| *limit > 0);
        entries.extend(self.largest(&wanted).into_iter().map(|index| {
            let (process, rates) = wanted[index];
            let memory_percent = limit.map(|limit| 100.0 * process.resident_kib as f64 / limit as f64);
            let started = started(sample, process.identity);
            let boot_id = sample.boot_id;
            Entry::Process(ProcessEntry { at, boot_id, rates, memory_percent, started, process })
        }));
    }

    /// Indices of the processes to show, largest first.
    fn largest(&self, processes: &[(&Process, Rates)]) -> Vec<usize> {
        let key = |(index, (process, rates)): (usize, &(&Process, Rates))| {
            (self.query.sort.key(process, rates), index)
        };
        let mut keys: Vec<_> = processes.iter().enumerate().map(key).collect();
        let compare =
            |a: &([f64; 3], usize), b: &([f64; 3], usize)| descending(&a.0, &b.0).then(a.1.cmp(&b.1));
        if let Some(top) = self.query.top.filter(|top| *top < keys.len()) {
            keys.select_nth_unstable_by(top, compare);
            keys.truncate(top);
        }
        keys.sort_unstable_by(compare);
        keys.into_iter().map(|(_, index)| index).collect()
    }
}
