//! Process exits: which, when and how. Pure.

mod ending;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use record::{BootId, Columns, Exit, ExitGroup, Identity, Process, Sample, Sources};

pub(crate) use self::ending::Ending;
use crate::record::{
    names::user_name,
    query::Query,
    time::{timestamp, timestamp_at},
};

/// The columns of the record that are needed; texts are always present.
pub(crate) const COLUMNS: Columns = Columns::UID;

/// A process exit, a group of exits, or lost exits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ended {
    /// A process.
    One(Box<EndedProcess>),
    /// Short-lived processes with the same name and parent.
    Group(Timestamp, ExitGroup),
    /// Number of exits lost because the kernel had too many to report.
    Lost(Timestamp, u64),
}

/// An exited process, and what the record knew about it before.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EndedProcess {
    /// Exit time, by the host's wall clock.
    pub at: Timestamp,
    /// Last counters and wait status.
    pub exit: Exit,
    /// User name, or the user id.
    pub user: Arc<str>,
    /// Command line; absent if the process was in no sample.
    pub command: Option<Arc<str>>,
}

/// Turns samples, oldest first, into process exits.
#[derive(Debug)]
pub(crate) struct Exits {
    query: Query,
    only_failed: bool,
    boot_id: BootId,
    known: Vec<Known>,
    lost: Option<u64>,
    last_ns: Option<u64>,
    seen: bool,
    /// Whether exits could not be recorded for some sample of the window.
    gaps: bool,
    shown: u64,
}

/// Details kept for a process.
#[derive(Debug)]
struct Known {
    identity: Identity,
    uid: Option<u32>,
    user: Option<Arc<str>>,
    command: Option<Arc<str>>,
}

impl Exits {
    /// Uses only the window and the selection of the query.
    pub(crate) fn new(query: Query, only_failed: bool) -> Self {
        Self {
            query,
            only_failed,
            boot_id: BootId::default(),
            known: Vec::new(),
            lost: None,
            last_ns: None,
            seen: false,
            gaps: false,
            shown: 0,
        }
    }

    /// Whether any sample covers a part of the window.
    pub(crate) fn has_seen(&self) -> bool {
        self.seen
    }

    /// Whether exits could not be recorded for some of the samples seen.
    pub(crate) fn has_gaps(&self) -> bool {
        self.gaps
    }

    /// Number of exits, groups and losses so far.
    pub(crate) fn shown(&self) -> u64 {
        self.shown
    }

    /// Time since boot of the newest sample seen, ns.
    pub(crate) fn last_ns(&self) -> Option<u64> {
        self.last_ns
    }

    /// Takes a sample only for comparison with the next one.
    pub(crate) fn lead(&mut self, sample: &Sample) {
        if sample.boot_id != self.boot_id {
            self.boot_id = sample.boot_id;
            self.known.clear();
        }
        self.lost = sample.exits_lost;
        self.last_ns = Some(sample.boottime_ns);
        self.keep(&sample.processes);
    }

    /// The exits of the next sample, oldest first.
    pub(crate) fn push(&mut self, sample: &Sample) -> Vec<Ended> {
        let at = timestamp(sample.wall_ms);
        if sample.boot_id != self.boot_id {
            self.known.clear();
            self.lost = None;
            self.last_ns = None;
        }
        let mut ended = self.singles(sample);
        // The time of anything else is known only to within the interval.
        let after = self.last_ns.map_or(at, |last_ns| timestamp_at(sample, last_ns));
        if self.query.meets(after, at) {
            self.seen = true;
            self.gaps |= !sample.sources.has(Sources::EXITS);
            self.describe(sample, at, &mut ended);
        }
        self.shown += ended.len() as u64;
        self.lead(sample);
        ended
    }

    /// The exits with a time of their own, which a sample after the window may bring.
    fn singles(&self, sample: &Sample) -> Vec<Ended> {
        let mut exits: Vec<_> = sample.exits.iter().map(|exit| self.one(exit, sample)).collect();
        exits.retain(|ended| self.query.spans(ended.at) && self.admits(ended));
        exits.sort_by_key(|ended| ended.exit.at_ns);
        exits.into_iter().map(Box::new).map(Ended::One).collect()
    }

    /// Groups of exits and losses.
    fn describe(&self, sample: &Sample, at: Timestamp, ended: &mut Vec<Ended>) {
        let groups = sample.exit_groups.iter().filter(|group| {
            self.query.selection.admits_group(group) && (!self.only_failed || group.failed > 0)
        });
        ended.extend(groups.map(|group| Ended::Group(at, group.clone())));
        let lost = sample.exits_lost.zip(self.lost).and_then(|(now, before)| now.checked_sub(before));
        ended.extend(lost.filter(|lost| *lost > 0).map(|lost| Ended::Lost(at, lost)));
    }

    fn one(&self, exit: &Exit, sample: &Sample) -> EndedProcess {
        let known = self.known.binary_search_by_key(&exit.identity, |known| known.identity);
        let known = known.ok().map(|index| &self.known[index]);
        // The process may have exited after this sample saw it.
        let now = sample.processes.binary_search_by_key(&exit.identity, |process| process.identity);
        let now = now.ok().map(|index| &sample.processes[index]);
        let by_uid = || self.known.iter().find(|known| known.uid == Some(exit.uid));
        let user = known.or_else(by_uid).and_then(|known| known.user.clone()).or_else(|| now.map(user_name));
        let command = known.and_then(|known| known.command.clone()).or_else(|| now?.command.clone());
        EndedProcess {
            at: timestamp_at(sample, exit.at_ns),
            exit: exit.clone(),
            user: user.unwrap_or_else(|| exit.uid.to_string().into()),
            command,
        }
    }

    fn admits(&self, ended: &EndedProcess) -> bool {
        let process = Process {
            uid: Some(ended.exit.uid),
            user: Some(Arc::clone(&ended.user)),
            comm: Arc::clone(&ended.exit.comm),
            command: ended.command.clone(),
            ..Process::bare(ended.exit.identity)
        };
        let failed = Ending::of(ended.exit.status).is_failure();
        self.query.selection.admits(&process) && (!self.only_failed || failed)
    }

    /// Remembers the processes of a sample. Usually they are the same as before: then nothing changes.
    fn keep(&mut self, processes: &[Process]) {
        let is_kept = |known: &Known, process: &Process| {
            known.identity == process.identity
                && match (&known.command, &process.command) {
                    (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                    // A zombie has lost its command line.
                    (_, None) => true,
                    (None, Some(_)) => false,
                }
        };
        if self.known.len() == processes.len()
            && self.known.iter().zip(processes).all(|(known, process)| is_kept(known, process))
        {
            return;
        }
        let old = std::mem::take(&mut self.known);
        self.known = processes
            .iter()
            .map(|process| {
                let before = old.binary_search_by_key(&process.identity, |known| known.identity);
                let command = || before.ok().and_then(|index| old[index].command.clone());
                Known {
                    identity: process.identity,
                    uid: process.uid,
                    user: Some(user_name(process)),
                    command: process.command.clone().or_else(command),
                }
            })
            .collect();
    }
}
