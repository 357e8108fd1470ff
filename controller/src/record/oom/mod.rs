//! Out-of-memory kills: the victim, the process that triggered the kill, and the biggest memory users. These are usually
//! three different processes. Pure.

mod holder;
mod past;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, mem, sync::Arc};

use jiff::Timestamp;
use record::{
    Event, EventKind, Sample, Sources,
    oom::{self, InferredKill, OomKill},
};

pub(crate) use self::holder::{Held, Holder, Memory, Named, Origin};
use self::{holder::of_table, past::Past};
use crate::record::{
    names::user_name,
    query::Query,
    time::{timestamp, timestamp_at},
};

/// Number of samples kept: two from before a kill to compute growth, and two that may be newer than the kill because the
/// kernel's line can arrive late.
const KEPT: usize = 4;

/// One out-of-memory event: one kill or several.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    /// Time of the kill; for an inferred kill, that of the sample that shows it.
    pub at: Timestamp,
    /// How the kill is known.
    pub kind: Kind,
    /// The process with the largest footprint.
    pub biggest: Option<Named>,
    /// The processes with the same name that had the largest total footprint.
    pub by_name: Option<Holder>,
    /// The memory limit of the host or control group, KiB.
    pub memory_kib: Option<u64>,
    /// Memory use by kind.
    pub memory: Option<Memory>,
}

/// How a kill is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// From the kernel log.
    Told {
        /// The parsed log.
        kill: Box<OomKill>,
        /// The killed processes, with what the record knew about them.
        victims: Vec<Named>,
    },
    /// From a counter only, on a host without a kernel log: the victims are inferred from missing processes.
    Inferred {
        /// Number of killed processes.
        kills: u64,
        /// The earliest possible time: that of the sample before.
        earliest: Timestamp,
        /// Possible victims, most likely first.
        candidates: Vec<Named>,
        /// Number of victims that were probably in no sample.
        unseen: u64,
    },
}

/// Turns samples, oldest first, into kills.
#[derive(Debug)]
pub(crate) struct Kills {
    query: Query,
    /// The newest samples of one boot, newest first.
    recent: VecDeque<Arc<Sample>>,
    /// Counted kills whose victims may not have exited yet.
    unsettled: Vec<Counted>,
}

/// The samples around a kill that only a counter shows.
#[derive(Debug)]
struct Counted {
    /// Newest first.
    before: Vec<Arc<Sample>>,
    after: Vec<Arc<Sample>>,
}

impl Kills {
    /// Uses only the window of the query.
    pub(crate) fn new(query: Query) -> Self {
        Self { query, recent: VecDeque::new(), unsettled: Vec::new() }
    }

    /// Time since boot of the newest sample seen, ns.
    pub(crate) fn last_ns(&self) -> Option<u64> {
        self.recent.front().map(|newest| newest.boottime_ns)
    }

    /// Takes a sample only for comparison with the next one.
    pub(crate) fn lead(&mut self, sample: &Sample) {
        self.keep(Arc::new(sample.clone()));
    }

    fn keep(&mut self, sample: Arc<Sample>) {
        if self.recent.front().is_some_and(|newest| newest.boot_id != sample.boot_id) {
            self.recent.clear();
        }
        self.recent.push_front(sample);
        self.recent.truncate(KEPT);
    }

    /// Takes the next sample and returns the kills that are now complete.
    pub(crate) fn push(&mut self, sample: &Sample) -> Vec<Report> {
        let sample = Arc::new(sample.clone());
        let mut reports = self.follow_with(&sample);
        self.keep(Arc::clone(&sample));
        let told = sample.events.iter().filter(|event| event.kind == EventKind::Kernel);
        // The kernel's line may have arrived in a sample after the window.
        let told = told.filter(|event| self.query.spans(timestamp_at(&sample, event.at_ns)));
        reports.extend(told.filter_map(|event| {
            let kill = OomKill::parse(&event.text)?;
            Some(self.told(event, kill, &sample))
        }));
        if let Some(counted) = self.counted(sample) {
            self.unsettled.push(counted);
        }
        reports
    }

    /// The kills that only the counter of the newest sample shows, if they may have happened in the window.
    fn counted(&self, sample: Arc<Sample>) -> Option<Counted> {
        let previous = self.recent.get(1).filter(|_| !sample.sources.has(Sources::KERNEL_LOG))?;
        oom::counted(previous, &sample)?;
        // The counter is read after the processes.
        let read_at = timestamp_at(&sample, sample.boottime_ns.saturating_add(sample.sweep_ns));
        let counted = Counted { before: self.recent.iter().skip(1).cloned().collect(), after: vec![sample] };
        self.query.meets(counted.earliest()?, read_at).then_some(counted)
    }

    /// The newest sample, if exits after it are still needed to find victims.
    pub(crate) fn unsettled(&self) -> Option<Arc<Sample>> {
        self.recent.front().cloned().filter(|_| !self.unsettled.is_empty())
    }

    /// Takes a sample only for exits after a kill and returns the kills that are now complete.
    pub(crate) fn follow(&mut self, sample: &Sample) -> Vec<Report> {
        self.follow_with(&Arc::new(sample.clone()))
    }

    fn follow_with(&mut self, sample: &Arc<Sample>) -> Vec<Report> {
        let settled = self.unsettled.extract_if(.., |counted| !counted.takes(sample));
        settled.filter_map(|counted| counted.report()).collect()
    }

    /// Returns the remaining kills after the last sample.
    pub(crate) fn finish(&mut self) -> Vec<Report> {
        mem::take(&mut self.unsettled).into_iter().filter_map(|counted| counted.report()).collect()
    }

    /// A kill from the kernel log in this sample, the newest.
    fn told(&self, event: &Event, kill: OomKill, sample: &Sample) -> Report {
        let past = Past::before(event.at_ns, self.recent.iter().map(|sample| &**sample));
        let victims = kill.victims.iter().map(|victim| told_victim(victim, &kill, past.as_ref())).collect();
        let in_table = kill.biggest().map(|row| told_process(row, past.as_ref()));
        // The table can be turned off (vm.oom_dump_tasks), and is missing when kills follow each other.
        let (biggest, by_name) = match in_table {
            Some(biggest) => (Some(biggest), of_table(&kill)),
            None => (past.and_then(|past| past.biggest()), past.and_then(|past| past.by_name())),
        };
        let memory = kill.memory.map(|parts| Memory { parts, origin: Origin::Kernel });
        // A kill by a control group's limit says nothing about the memory of the rest of the host.
        let of_host = || past.filter(|_| kill.oom_memcg.is_none()).map(|past| past.memory());
        Report {
            at: timestamp_at(sample, event.at_ns),
            biggest,
            by_name,
            memory_kib: limit_kib(&kill).or_else(|| sample.host.memory_limit_kib()),
            memory: memory.or_else(of_host),
            kind: Kind::Told { kill: Box::new(kill), victims },
        }
    }
}

impl Counted {
    /// Takes a sample if it is soon enough after the kill; returns whether it was.
    fn takes(&mut self, sample: &Arc<Sample>) -> bool {
        let first = &self.after[0];
        let soon = sample.boot_id == first.boot_id
            && sample.boottime_ns.saturating_sub(first.boottime_ns) <= oom::SETTLE_NS;
        if soon {
            self.after.push(Arc::clone(sample));
        }
        soon
    }

    /// The earliest possible time, by the clock of the sample that shows the kill: the clock may have been set.
    fn earliest(&self) -> Option<Timestamp> {
        Some(timestamp_at(&self.after[0], self.before.first()?.boottime_ns))
    }

    fn report(&self) -> Option<Report> {
        let (first, previous) = (&self.after[0], self.before.first()?);
        let InferredKill { kills, candidates, unseen, .. } =
            oom::inferred(previous, self.after.iter().map(|sample| &**sample))?;
        let past = Past::before(first.boottime_ns, self.before.iter().map(|sample| &**sample))?;
        let exits = || self.after.iter().flat_map(|sample| &sample.exits);
        let candidates = candidates.into_iter().map(|process| {
            let exit = exits().find(|exit| exit.identity == process.identity);
            Named { peak_kib: exit.map(|exit| exit.peak_kib), ..past.named(process) }
        });
        Some(Report {
            at: timestamp(first.wall_ms),
            biggest: past.biggest(),
            by_name: past.by_name(),
            memory_kib: past.limit_kib(),
            memory: Some(past.memory()),
            kind: Kind::Inferred {
                kills,
                earliest: self.earliest()?,
                candidates: candidates.collect(),
                unseen,
            },
        })
    }
}

/// The memory limit according to the kernel log, KiB.
fn limit_kib(kill: &OomKill) -> Option<u64> {
    let machine = || kill.memory.filter(|_| kill.oom_memcg.is_none()).and_then(|memory| memory.total_kib);
    kill.limit_kib.or_else(machine)
}

/// A victim: sizes from the kernel's kill line, else from its table, else from the last sample.
fn told_victim(victim: &oom::Victim, kill: &OomKill, past: Option<&Past<'_>>) -> Named {
    let row = kill.table.iter().find(|row| row.tgid == victim.pid || row.pid == victim.pid);
    let process = past.and_then(|past| past.process(victim.pid));
    let swapped = row.and_then(|row| row.swap_kib).unwrap_or(0);
    let told = victim.anon_kib.map(|kib| kib.saturating_add(swapped));
    let told = told.or_else(|| row.map(oom::Row::footprint_kib)).map(Held::told);
    Named {
        pid: victim.pid,
        comm: victim.comm.as_str().into(),
        user: process.map(user_name),
        command: process.and_then(|process| process.command.clone()),
        held: told.or_else(|| Some(past?.held(process?))),
        peak_kib: None,
    }
}

/// A process from the kernel's table.
fn told_process(row: &oom::Row, past: Option<&Past<'_>>) -> Named {
    let process = past.and_then(|past| past.process(row.tgid));
    Named {
        pid: row.tgid,
        comm: row.comm.as_str().into(),
        user: process.map(user_name),
        command: process.and_then(|process| process.command.clone()),
        held: Some(Held::told(row.footprint_kib())),
        peak_kib: None,
    }
}
