//! What stands out on the time line.

use std::iter;

use record::{
    BootId, Event, EventKind, GAP_INTERVALS, Sample,
    oom::{self, InferredKill, OomKill},
};

use super::Timeline;
use crate::record::marks::RunMark;

/// Something worth jumping to, at a place in the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Place of the sample that shows it.
    pub index: usize,
    /// What kind of thing.
    pub kind: MarkKind,
    /// A sentence, as the host gave it.
    pub text: String,
}

/// Kinds of marks, what matters most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MarkKind {
    /// The kernel killed for want of memory.
    OomKill,
    /// The host was started anew.
    Restart,
    /// A run began.
    RunBegin,
    /// A run ended.
    RunEnd,
    /// The kernel said something else.
    Kernel,
    /// No samples were taken for a while.
    Gap,
    /// The recorder said something.
    Note,
}

impl MarkKind {
    /// How it looks on the time line.
    pub fn symbol(self) -> char {
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
        None => format!("{what} {run_id} of {user} began"),
        Some(state) => format!("{what} {run_id} of {user} ended: {state}"),
    }
}

/// Looks at samples one after the other, and says what each shows.
#[derive(Debug, Default)]
pub(super) struct Watch {
    previous: Option<Seen>,
}

/// What is remembered of a sample.
#[derive(Clone, Copy, Debug)]
struct Seen {
    boot_id: BootId,
    boottime_ns: u64,
    interval_ms: u32,
    kills: u64,
    /// Kills that the kernel's log told of and that are not counted yet.
    ahead: u64,
}

impl Watch {
    pub(super) fn marks(&mut self, sample: &Sample) -> Vec<(MarkKind, String)> {
        let mut found = Vec::new();
        found.extend(self.previous.and_then(|previous| break_between(&previous, sample)));
        found.extend(sample.events.iter().map(of_event));
        let told = found.iter().filter(|(kind, _)| *kind == MarkKind::OomKill).count() as u64;
        let kills = sample.own_kills().unwrap_or(0);
        let previous = self.previous.filter(|previous| previous.boot_id == sample.boot_id);
        let counted = previous.map_or(0, |previous| kills.saturating_sub(previous.kills));
        // The kernel counts a kill and tells of it, not always in the same sample.
        let told = told + previous.map_or(0, |previous| previous.ahead);
        if counted > told {
            found.push((MarkKind::OomKill, "the kernel killed a process for want of memory".into()));
        }
        let Sample { boot_id, boottime_ns, interval_ms, .. } = *sample;
        let ahead = told.saturating_sub(counted);
        self.previous = Some(Seen { boot_id, boottime_ns, interval_ms, kills, ahead });
        found
    }
}

fn of_event(event: &Event) -> (MarkKind, String) {
    let kind = match event.kind {
        EventKind::Kernel if is_oom(&event.text) => MarkKind::OomKill,
        EventKind::Kernel => MarkKind::Kernel,
        EventKind::Note => MarkKind::Note,
    };
    (kind, headline(&event.text).to_owned())
}

fn break_between(previous: &Seen, sample: &Sample) -> Option<(MarkKind, String)> {
    if previous.boot_id != sample.boot_id {
        return Some((MarkKind::Restart, "the host was restarted".into()));
    }
    let elapsed_ms = sample.boottime_ns.saturating_sub(previous.boottime_ns) as f64 / 1e6;
    let interval_ms = f64::from(previous.interval_ms.max(sample.interval_ms));
    let gap = elapsed_ms > GAP_INTERVALS * interval_ms;
    gap.then(|| (MarkKind::Gap, format!("no samples for {:.1} s before this one", elapsed_ms / 1e3)))
}

/// Whether lines of the kernel's log tell of a kill for want of memory: what [`OomKill::parse`] would say, but quickly.
fn is_oom(text: &str) -> bool {
    text.contains(oom::INVOKED) || text.contains(oom::KILLED)
}

/// The line that says most: who was killed, or the first.
fn headline(text: &str) -> &str {
    let killed = text.lines().find(|line| line.contains(oom::KILLED));
    killed.or_else(|| text.lines().next()).unwrap_or_default()
}

/// Sentences about the kills of one sample: who was killed, who held most, who asked. Where the log cannot be read, what
/// came `later` shows who is gone.
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
        text += &format!("; most held: {} {}", named(&row.comm, row.pid), mib(row.footprint_kib()));
    }
    if let Some(trigger) = &kill.trigger {
        text += &format!("; asked: {}", trigger.comm);
    }
    text
}

/// Where the kernel's log cannot be read.
fn guessed(kill: &InferredKill) -> String {
    let mut text = "OOM killed somebody".to_owned();
    for (what, process) in [("may be", kill.candidates.first().copied()), ("most held", kill.biggest)] {
        if let Some(process) = process {
            let name = named(&process.comm, process.identity.pid);
            text += &format!("; {what}: {name} {}", mib(process.footprint_kib()));
        }
    }
    text
}

fn named(comm: &str, pid: u32) -> String {
    format!("{comm} ({pid})")
}

fn mib(kib: u64) -> String {
    format!("{} MiB", kib / 1_024)
}
