//! Marks on the time line: kills, restarts, runs, messages, gaps.

use std::iter;

use proto::units::kib_size;
use record::{
    BootId, Event, EventKind, GAP_INTERVALS, Sample,
    oom::{self, InferredKill, OomKill},
};

use super::Timeline;
use crate::record::marks::RunMark;

/// An event worth jumping to, at an index in the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Index of the sample in the window.
    pub index: usize,
    /// Kind of event.
    pub kind: MarkKind,
    /// Description, unescaped: may contain text from the host.
    pub text: String,
}

/// Kinds of marks, most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MarkKind {
    /// Out-of-memory kill.
    OomKill,
    /// The host restarted.
    Restart,
    /// A run started.
    RunBegin,
    /// A run ended.
    RunEnd,
    /// Another kernel message.
    Kernel,
    /// No samples were taken for a while.
    Gap,
    /// A note from the recorder.
    Note,
}

impl MarkKind {
    /// Symbol on the time line.
    pub(crate) fn symbol(self) -> char {
        match self {
            Self::OomKill => '✗',
            Self::Restart => '↻',
            Self::RunBegin => '▲',
            Self::RunEnd => '△',
            Self::Kernel => '!',
            Self::Gap => '·',
            Self::Note => 'i',
        }
    }
}

/// All marks of the window, in order.
pub(super) fn marks(timeline: &Timeline, runs: &[RunMark]) -> Vec<Mark> {
    let (mut marks, mut watch, mut before_ms) = (Vec::new(), Watch::default(), None);
    for (index, sample) in timeline.samples().enumerate() {
        let found = watch.marks(sample).into_iter();
        marks.extend(found.map(|(kind, text)| Mark { index, kind, text }));
        if let Some(before_ms) = before_ms.replace(sample.wall_ms) {
            marks.extend(between(before_ms, sample.wall_ms, index, runs));
        }
    }
    marks
}

fn between(from_ms: i64, until_ms: i64, index: usize, runs: &[RunMark]) -> impl Iterator<Item = Mark> + '_ {
    let inside =
        move |run: &&RunMark| from_ms < run.at.as_millisecond() && run.at.as_millisecond() <= until_ms;
    runs.iter().filter(inside).map(move |run| Mark { index, kind: kind(run), text: sentence(run) })
}

fn kind(run: &RunMark) -> MarkKind {
    if run.state.is_none() { MarkKind::RunBegin } else { MarkKind::RunEnd }
}

fn sentence(run: &RunMark) -> String {
    let RunMark { what, run_id, user, .. } = run;
    match &run.state {
        None => format!("{what} {run_id} by {user} started"),
        Some(state) => format!("{what} {run_id} by {user} ended: {state}"),
    }
}

/// Finds the marks of consecutive samples.
#[derive(Debug, Default)]
pub(super) struct Watch {
    previous: Option<Seen>,
}

/// State kept from the previous sample.
#[derive(Clone, Copy, Debug)]
struct Seen {
    boot_id: BootId,
    boottime_ns: u64,
    interval_ms: u32,
    kills: u64,
    /// Kills in the kernel log that the kernel's counter does not include yet.
    ahead: u64,
}

impl Watch {
    pub(super) fn marks(&mut self, sample: &Sample) -> Vec<(MarkKind, String)> {
        let mut found = Vec::new();
        found.extend(self.previous.and_then(|previous| break_between(&previous, sample)));
        found.extend(sample.events.iter().filter_map(of_event));
        let told = found.iter().filter(|(kind, _)| *kind == MarkKind::OomKill).count() as u64;
        let kills = sample.own_kills().unwrap_or(0);
        let previous = self.previous.filter(|previous| previous.boot_id == sample.boot_id);
        let counted = previous.map_or(0, |previous| kills.saturating_sub(previous.kills));
        // The kernel counts and logs each kill, but not always in the same sample.
        let told = told + previous.map_or(0, |previous| previous.ahead);
        if counted > told {
            found.push((MarkKind::OomKill, "out-of-memory kill".into()));
        }
        let Sample { boot_id, boottime_ns, interval_ms, .. } = *sample;
        let ahead = told.saturating_sub(counted);
        self.previous = Some(Seen { boot_id, boottime_ns, interval_ms, kills, ahead });
        found
    }
}

fn of_event(event: &Event) -> Option<(MarkKind, String)> {
    let kind = match event.kind {
        EventKind::Kernel if is_oom(&event.text) => MarkKind::OomKill,
        EventKind::Kernel => MarkKind::Kernel,
        EventKind::Note => MarkKind::Note,
        // Read by a diagnosis only.
        EventKind::Stacks => return None,
    };
    Some((kind, headline(&event.text).to_owned()))
}

fn break_between(previous: &Seen, sample: &Sample) -> Option<(MarkKind, String)> {
    if previous.boot_id != sample.boot_id {
        return Some((MarkKind::Restart, "the host restarted".into()));
    }
    let elapsed_ms = sample.boottime_ns.saturating_sub(previous.boottime_ns) as f64 / 1e6;
    let interval_ms = f64::from(previous.interval_ms.max(sample.interval_ms));
    let gap = elapsed_ms > GAP_INTERVALS * interval_ms;
    gap.then(|| (MarkKind::Gap, format!("no samples for {:.1} s before this one", elapsed_ms / 1e3)))
}

/// Whether kernel log lines report an out-of-memory kill: a fast version of [`OomKill::parse`].
fn is_oom(text: &str) -> bool {
    text.contains(oom::INVOKED) || text.contains(oom::KILLED)
}

/// The most useful line: the one that names the victim, else the first.
fn headline(text: &str) -> &str {
    let killed = text.lines().find(|line| line.contains(oom::KILLED));
    killed.or_else(|| text.lines().next()).unwrap_or_default()
}

/// Describes the kills of one sample: victim, biggest process, trigger. Without a kernel log, the victim is inferred
/// from processes missing in `later` samples.
pub(super) fn kills_of<'a>(
    previous: Option<&Sample>,
    sample: &'a Sample,
    later: impl Iterator<Item = &'a Sample>,
) -> Vec<String> {
    let kills = sample.events.iter().filter(|event| event.kind == EventKind::Kernel);
    let mut told: Vec<_> =
        kills.filter_map(|event| OomKill::parse(&event.text)).map(|kill| told(&kill)).collect();
    if let Some(previous) = previous.filter(|_| told.is_empty()) {
        told.extend(oom::inferred(previous, iter::once(sample).chain(later)).as_ref().map(guessed));
    }
    told
}

fn told(kill: &OomKill) -> String {
    let victims: Vec<_> = kill.victims.iter().map(|victim| named(&victim.comm, victim.pid)).collect();
    let mut text = format!("OOM killed {}", if victims.is_empty() { "?".into() } else { victims.join(", ") });
    if let Some(row) = kill.biggest() {
        text += &format!("; biggest: {} {}", named(&row.comm, row.pid), kib_size(row.footprint_kib()));
    }
    if let Some(trigger) = &kill.trigger {
        text += &format!("; triggered by {}", trigger.comm);
    }
    text
}

/// Describes an inferred kill, on a host without a kernel log.
fn guessed(kill: &InferredKill) -> String {
    let mut text = match kill.kills {
        1 => "OOM killed a process".to_owned(),
        kills => format!("OOM killed {kills} processes"),
    };
    let likely = kill.candidates.first().copied().filter(|_| kill.unseen < kill.kills);
    for (what, process) in [("probably", likely), ("biggest:", kill.biggest)] {
        if let Some(process) = process {
            let name = named(&process.comm, process.identity.pid);
            text += &format!("; {what} {name} {}", kib_size(process.footprint_kib()));
        }
    }
    text
}

fn named(comm: &str, pid: u32) -> String {
    format!("{comm} ({pid})")
}

#[cfg(test)]
mod tests {
    use record::{HostCounters, Identity, Process, oom::Row};

    use super::*;

    fn sample(kills: u64, processes: &[Process]) -> Sample {
        let host = HostCounters { cgroup_oom_kills: Some(kills), ..HostCounters::default() };
        Sample { host, processes: processes.to_vec(), ..Sample::default() }
    }

    #[test]
    fn without_a_kernel_log_the_victim_is_the_process_that_is_gone() {
        let process = |pid, comm: &str, mib: u64| Process {
            comm: comm.into(),
            anon_kib: Some(mib << 10),
            ..Process::bare(Identity { pid, started_ns: 0 })
        };
        let all = [process(7, "mysqld", 300), process(8, "tail", 90), process(9, "sleep", 1)];
        let kill = |kills, left: &[Process]| {
            let (before, now) = (sample(0, &all), sample(kills, left));
            kills_of(Some(&before), &now, iter::empty())
        };
        assert_eq!(
            kill(1, &all[..1]),
            ["OOM killed a process; probably tail (8) 90 MiB; biggest: mysqld (7) 300 MiB"]
        );
        assert_eq!(
            kill(2, &all[..2]),
            ["OOM killed 2 processes; biggest: mysqld (7) 300 MiB"],
            "the other one is too small"
        );
    }

    #[test]
    fn the_biggest_process_has_the_size_that_ctl_oom_shows() {
        let row = Row { pid: 7, comm: "mysqld".into(), rss_kib: 50_000, ..Row::default() };
        let kill = OomKill { table: vec![row], ..OomKill::default() };
        assert_eq!(told(&kill), "OOM killed ?; biggest: mysqld (7) 49 MiB");
    }
}
