//! The state of the screen. Keys, samples and answers go in, [`Action`]s come out.

use std::sync::Arc;

use record::{Identity, Sample};

use super::{
    Mark, MarkKind, Row, Timeline, View, marks,
    request::{Answer, Purpose, Request},
    rows::rows,
};
use crate::record::{marks::RunMark, rates::PAST};

/// Intervals to load before a moment: half of one chunk, so that the other half is for the samples after it.
const BEFORE: i64 = 150;

/// What the caller has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Redraw the screen.
    Show,
    /// Read this part of the record and pass it to [`State::loaded`]; replaces any earlier request.
    Load(Request),
    /// Quit.
    Quit,
}

/// What is drawn over the processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Popup {
    /// No popup.
    #[default]
    Nothing,
    /// The help.
    Help,
    /// Details of one process.
    Details(Identity),
    /// The filter is being typed.
    Filter,
}

/// Where new samples come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Link {
    /// Connecting to a host.
    #[default]
    Connecting,
    /// A host that answers.
    Up,
    /// A host that stopped answering, and why.
    Down(String),
    /// None: this is the disk of a dead host.
    Disk,
}

/// The state of the screen.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Name of the host or directory.
    pub title: String,
    /// The samples and the cursor.
    pub timeline: Timeline,
    /// How processes are shown.
    pub view: View,
    /// The open popup.
    pub popup: Popup,
    /// Where new samples come from.
    pub link: Link,
    /// Message about the last action.
    pub notice: Option<String>,
    /// Starts and ends of runs.
    pub runs: Vec<RunMark>,
    /// Wall times of the first samples after gaps, ms since the Unix epoch.
    pub gaps: Vec<i64>,
    /// Wall time of the newest known sample, ms since the Unix epoch.
    pub newest_ms: i64,
    pub(super) pending: Option<Request>,
    requests: u64,
}

impl State {
    /// A state with no samples loaded.
    pub(crate) fn new(title: &str, link: Link, newest_ms: i64) -> Self {
        Self { title: title.to_owned(), link, newest_ms, ..Self::default() }
    }

    /// Whether a request is pending.
    pub(crate) fn is_loading(&self) -> bool {
        self.pending.is_some()
    }

    /// The marks of the window, in order.
    pub(crate) fn marks(&self) -> Vec<Mark> {
        marks::marks(&self.timeline, &self.runs)
    }

    /// The marks of the current sample, most important first.
    pub(crate) fn marks_here(&self) -> Vec<(MarkKind, String)> {
        let Some(sample) = self.timeline.current() else { return Vec::new() };
        let previous = self.timeline.previous().map(|previous| &**previous);
        let cursor = self.timeline.cursor();
        let later = self.timeline.samples().skip(cursor + 1).map(|sample| &**sample);
        let mut kills = marks::kills_of(previous, sample, later).into_iter();
        let here = self.marks().into_iter().filter(|mark| mark.index == cursor);
        let told = |mark: Mark| match mark.kind {
            MarkKind::OomKill => (mark.kind, kills.next().unwrap_or(mark.text)),
            kind => (kind, mark.text),
        };
        let mut here: Vec<_> = here.map(told).collect();
        here.sort_by_key(|(kind, _)| *kind);
        here
    }

    /// The processes of the current sample.
    pub(crate) fn rows(&self) -> Vec<Row<'_>> {
        let Some(sample) = self.timeline.current() else { return Vec::new() };
        rows(self.timeline.past(PAST).map(|past| &**past), sample, &self.view)
    }

    /// Adds a sample that the host has just taken.
    pub(crate) fn sampled(&mut self, sample: Sample) {
        self.newest_ms = sample.wall_ms;
        self.timeline.push(Arc::new(sample));
    }

    /// Takes the answer to a request. Answers to replaced requests are ignored.
    pub(crate) fn loaded(&mut self, request: Request, answer: Result<Answer, String>) -> Action {
        if self.pending != Some(request) {
            return Action::Show;
        }
        self.pending = None;
        let answer = match answer {
            Ok(answer) => answer,
            Err(sentence) => {
                self.notice = Some(sentence);
                return Action::Show;
            }
        };
        if !answer.lost.is_empty() {
            self.notice = Some(answer.lost.join("; "));
        }
        match request.purpose {
            Purpose::NextMark(_) | Purpose::PreviousMark(_) => self.found(request.purpose, answer.mark),
            _ => self.arrived(request, answer.samples),
        }
    }

    fn arrived(&mut self, request: Request, samples: Vec<Arc<Sample>>) -> Action {
        let empty = samples.is_empty();
        match request.purpose {
            Purpose::Before(_) => {
                let cursor = self.timeline.cursor();
                match self.timeline.prepend(samples) {
                    0 if request.from_ms > i64::MIN => return self.widen(request),
                    0 => self.at_oldest(),
                    _ if cursor == 0 => self.timeline.look_at(self.timeline.cursor().saturating_sub(1)),
                    _ => {}
                }
            }
            Purpose::After(_) => {
                let next = self.timeline.cursor() as i64 + 1 + self.timeline.base();
                match self.timeline.append(samples) {
                    0 => self.at_newest(),
                    _ => self.timeline.look_at((next - self.timeline.base()) as usize),
                }
            }
            Purpose::Newest if empty && request.from_ms > i64::MIN => return self.widen(request),
            Purpose::Around(_) if empty => return self.newest(),
            Purpose::Newest => {
                self.timeline.replace(samples);
                self.timeline.mark_newest();
                self.timeline.go_live();
            }
            Purpose::Oldest => {
                self.timeline.replace(samples);
                self.timeline.mark_oldest();
            }
            Purpose::Around(wall_ms) => {
                self.timeline.replace(samples);
                let place = self.timeline.place_at(wall_ms).unwrap_or_else(|| self.nearest(wall_ms));
                self.timeline.look_at(place);
            }
            Purpose::NextMark(_) | Purpose::PreviousMark(_) => {}
        }
        Action::Show
    }

    fn nearest(&self, wall_ms: i64) -> usize {
        self.timeline.place_from(wall_ms).unwrap_or(usize::MAX)
    }

    /// Nothing found: retries with a range four times as long.
    fn widen(&mut self, request: Request) -> Action {
        let end_ms = match (request.purpose, self.timeline.get(0)) {
            (Purpose::Before(_), Some(first)) => first.wall_ms,
            _ => request.until_ms.min(self.newest_ms),
        };
        let from_ms =
            end_ms.saturating_sub(end_ms.saturating_sub(request.from_ms).max(1_000).saturating_mul(4));
        self.ask(if from_ms > 0 { from_ms } else { i64::MIN }, request.until_ms, request.purpose)
    }

    fn found(&mut self, purpose: Purpose, found: Option<i64>) -> Action {
        let known = self.runs.iter().map(|run| run.at.as_millisecond()).chain(self.gaps.iter().copied());
        let target = match purpose {
            Purpose::NextMark(after) => known.filter(|at| *at > after).chain(found).min(),
            Purpose::PreviousMark(before) => known.filter(|at| *at < before).chain(found).max(),
            _ => None,
        };
        let Some(target) = target else {
            self.notice = Some("no more marks".into());
            return Action::Show;
        };
        self.around(target)
    }

    pub(super) fn at_oldest(&mut self) {
        self.timeline.mark_oldest();
        self.notice = Some("the record begins here".into());
    }

    fn at_newest(&mut self) {
        self.timeline.mark_newest();
        self.notice = Some("the record ends here".into());
    }

    /// Cancels the pending request.
    pub(super) fn settle(&mut self) -> Action {
        self.pending = None;
        Action::Show
    }

    pub(super) fn ask(&mut self, from_ms: i64, until_ms: i64, purpose: Purpose) -> Action {
        self.requests += 1;
        let request = Request { id: self.requests, from_ms, until_ms, purpose };
        self.pending = Some(request);
        Action::Load(request)
    }

    /// Loads the samples around a wall time and moves there.
    pub(crate) fn around(&mut self, wall_ms: i64) -> Action {
        self.ask(wall_ms.saturating_sub(self.reach_ms()), i64::MAX, Purpose::Around(wall_ms))
    }

    /// Goes to the end of the record and follows it.
    pub(crate) fn newest(&mut self) -> Action {
        self.ask(self.newest_ms.saturating_sub(2 * self.reach_ms()), i64::MAX, Purpose::Newest)
    }

    pub(super) fn reach_ms(&self) -> i64 {
        let interval_ms = self.timeline.current().map_or(1_000, |sample| i64::from(sample.interval_ms));
        interval_ms.max(100) * BEFORE
    }
}
