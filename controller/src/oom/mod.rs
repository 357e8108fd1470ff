//! Kills for want of memory: whom the kernel killed, who had asked for memory, and who held it. Three different
//! questions with mostly three different answers. Pure.

mod holder;
#[cfg(test)]
mod tests;

use std::{mem, sync::Arc};

use jiff::Timestamp;
use proto::history::{
    EventKind, Process, Sample, Sources,
    oom::{self, InferredKill, OomKill},
};

pub use self::holder::{Holder, Named};
use self::holder::{by_name, named, of_name};
use crate::cpu_log::{Query, timestamp, timestamp_at, user_name};

/// One kill, or several that one want of memory led to.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// When.
    pub at: Timestamp,
    /// Who tells of it.
    pub kind: Kind,
    /// The process that held most.
    pub biggest: Option<Named>,
    /// What all processes of one name held together, the most first.
    pub by_name: Option<Holder>,
    /// The memory that there was to hold, KiB.
    pub memory_kib: Option<u64>,
}

/// Who tells of a kill.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// The kernel's log.
    Told {
        /// What it says.
        kill: Box<OomKill>,
        /// Who was killed, with what the record knew of each before.
        victims: Vec<Named>,
    },
    /// Only a counter, where the log cannot be read: who was killed is inferred from who is gone.
    Inferred {
        /// How many were killed.
        kills: u64,
        /// Who may have been, the likeliest first.
        candidates: Vec<Named>,
    },
}

/// Turns samples, oldest first, into kills.
#[derive(Debug)]
pub struct Kills {
    query: Query,
    previous: Option<Arc<Sample>>,
    /// Kills that were counted and whose victims may not have ended yet.
    unsettled: Vec<Counted>,
    seen: bool,
}

/// What was seen of a kill that only a counter tells of.
#[derive(Debug)]
struct Counted {
    previous: Arc<Sample>,
    after: Vec<Arc<Sample>>,
}

impl Kills {
    /// Of a query, the window counts.
    pub fn new(query: Query) -> Self {
        Self { query, previous: None, unsettled: Vec::new(), seen: false }
    }

    /// Whether any sample was inside of the window.
    pub fn has_seen(&self) -> bool {
        self.seen
    }

    /// Time since boot of the newest sample at hand, ns.
    pub fn last_ns(&self) -> Option<u64> {
        self.previous.as_ref().map(|previous| previous.boottime_ns)
    }

    /// Keeps a sample only to compare the next one with.
    pub fn lead(&mut self, sample: &Sample) {
        self.previous = Some(Arc::new(sample.clone()));
    }

    /// One more sample; the kills that are known with it.
    pub fn push(&mut self, sample: &Sample) -> Vec<Report> {
        let sample = Arc::new(sample.clone());
        let mut reports = self.follow_with(&sample);
        if self.query.spans(timestamp(sample.wall_ms)) {
            self.seen = true;
            let same_boot = |previous: &&Arc<Sample>| previous.boot_id == sample.boot_id;
            let previous = self.previous.as_ref().filter(same_boot);
            let told = sample.events.iter().filter(|event| event.kind == EventKind::Kernel);
            reports.extend(told.filter_map(|event| {
                let kill = OomKill::parse(&event.text)?;
                Some(told_report(timestamp_at(&sample, event.at_ns), kill, previous.unwrap_or(&sample)))
            }));
            let silent = !sample.sources.has(Sources::KERNEL_LOG);
            if let Some(previous) =
                previous.filter(|previous| silent && oom::counted(previous, &sample).is_some())
            {
                let counted = Counted { previous: Arc::clone(previous), after: vec![Arc::clone(&sample)] };
                self.unsettled.push(counted);
            }
        }
        self.previous = Some(sample);
        reports
    }

    /// The newest sample, if who ended after it matters still.
    pub fn unsettled(&self) -> Option<Arc<Sample>> {
        self.previous.clone().filter(|_| !self.unsettled.is_empty())
    }

    /// A sample that may only show who ended after a kill; the kills that are known with it.
    pub fn follow(&mut self, sample: &Sample) -> Vec<Report> {
        self.follow_with(&Arc::new(sample.clone()))
    }

    fn follow_with(&mut self, sample: &Arc<Sample>) -> Vec<Report> {
        let settled = self.unsettled.extract_if(.., |counted| !counted.takes(sample));
        settled.filter_map(|counted| counted.report()).collect()
    }

    /// The kills whose victims were still awaited, when no more samples come.
    pub fn finish(&mut self) -> Vec<Report> {
        mem::take(&mut self.unsettled).into_iter().filter_map(|counted| counted.report()).collect()
    }
}

impl Counted {
    /// Takes a sample that comes soon enough.
    fn takes(&mut self, sample: &Arc<Sample>) -> bool {
        let first = &self.after[0];
        let soon = sample.boot_id == first.boot_id
            && sample.boottime_ns.saturating_sub(first.boottime_ns) <= oom::SETTLE_NS;
        if soon {
            self.after.push(Arc::clone(sample));
        }
        soon
    }

    fn report(&self) -> Option<Report> {
        let InferredKill { kills, candidates, biggest } =
            oom::inferred(&self.previous, self.after.iter().map(|sample| &**sample))?;
        Some(Report {
            at: timestamp(self.after[0].wall_ms),
            biggest: biggest.map(named),
            by_name: by_name(&self.previous),
            memory_kib: self.previous.host.memory_limit_kib(),
            kind: Kind::Inferred { kills, candidates: candidates.into_iter().map(named).collect() },
        })
    }
}

fn told_report(at: Timestamp, kill: OomKill, before: &Sample) -> Report {
    let known = |pid: u32| before.processes.iter().rfind(|process| process.identity.pid == pid);
    let victims = kill.victims.iter().map(|victim| {
        let process = known(victim.pid);
        Named {
            pid: victim.pid,
            comm: victim.comm.as_str().into(),
            user: process.map(user_name),
            command: process.and_then(|process| process.command.clone()),
            footprint_kib: victim.anon_kib.or_else(|| process.map(Process::footprint_kib)),
        }
    });
    let victims = victims.collect();
    let in_table = kill.biggest().map(|row| Named {
        pid: row.tgid,
        comm: row.comm.as_str().into(),
        user: known(row.tgid).map(user_name),
        command: known(row.tgid).and_then(|process| process.command.clone()),
        footprint_kib: Some(row.footprint_kib()),
    });
    let (biggest, by_name) = match in_table {
        Some(biggest) => (Some(biggest), kill.by_name().first().map(of_name)),
        // The table can be turned off (vm.oom_dump_tasks), and is left out when kills follow each other.
        None => (biggest(before).map(named), by_name(before)),
    };
    let memory_kib = kill.limit_kib.or_else(|| before.host.memory_limit_kib());
    Report { at, kind: Kind::Told { kill: Box::new(kill), victims }, biggest, by_name, memory_kib }
}

fn biggest(sample: &Sample) -> Option<&Process> {
    sample.processes.iter().max_by_key(|process| process.footprint_kib())
}
