//! All that is on the screen. Keys and news go in, what is to be done about them comes out.

use std::sync::Arc;

use record::{Identity, Sample};

use super::{
    Mark, MarkKind, Row, Timeline, View, marks,
    request::{Answer, Purpose, Request},
    rows::rows,
};
use crate::record::marks::RunMark;

/// Time to load before a moment, in intervals: half of what is loaded at once, so that the rest is for what follows.
const BEFORE: i64 = 150;

/// What has to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing but to show what there is.
    Show,
    /// To read this of the record, and to give it to [`State::loaded`]; what was asked for before is of no more use.
    Load(Request),
    /// To end.
    Quit,
}

/// What is laid over the processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Popup {
    /// Nothing.
    #[default]
    Nothing,
    /// The keys.
    Help,
    /// All that is known of one process.
    Details(Identity),
    /// The filter is being typed.
    Filter,
}

/// Where new samples come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// From a host that is being asked.
    #[default]
    Connecting,
    /// From a host that answers.
    Up,
    /// From a host that does not answer any more, and why.
    Down(String),
    /// From nowhere: the host is dead, this is its disk.
    Disk,
}

/// All that is on the screen.
#[derive(Debug, Default)]
pub struct State {
    /// What the host is called.
    pub title: String,
    /// The samples, and which is looked at.
    pub timeline: Timeline,
    /// How its processes are shown.
    pub view: View,
    /// What is laid over them.
    pub popup: Popup,
    /// Where new samples come from.
    pub link: Link,
    /// A sentence about what was asked for last.
    pub notice: Option<String>,
    /// Begins and ends of runs.
    pub runs: Vec<RunMark>,
    /// Wall times of the first samples after longer gaps.
    pub gaps: Vec<i64>,
    /// Wall time of the newest sample that is known of, ms since the Unix epoch.
    pub newest_ms: i64,
    pub(super) pending: Option<Request>,
    requests: u64,
}

impl State {
    /// Nothing is loaded yet.
    pub fn new(title: &str, link: Link, newest_ms: i64) -> Self {
        Self { title: title.to_owned(), link, newest_ms, ..Self::default() }
    }

    /// Whether an answer is awaited.
    pub fn is_loading(&self) -> bool {
        self.pending.is_some()
    }

    /// The marks of the window, in order.
    pub fn marks(&self) -> Vec<Mark> {
        marks::marks(&self.timeline, &self.runs)
    }

    /// What the sample that is looked at shows, most important first.
    pub fn marks_here(&self) -> Vec<(MarkKind, String)> {
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

    /// The processes of the sample that is looked at.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let Some(sample) = self.timeline.current() else { return Vec::new() };
        rows(self.timeline.previous().map(|previous| &**previous), sample, &self.view)
    }

    /// A sample that the host has just taken.
    pub fn sampled(&mut self, sample: Sample) {
        self.newest_ms = sample.wall_ms;
        self.timeline.push(Arc::new(sample));
    }

    /// The answer to a request. One that is not awaited any more is ignored.
    pub fn loaded(&mut self, request: Request, answer: Result<Answer, String>) -> Action {
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

    /// Nothing was found so near: looks four times as far.
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
            self.notice = Some("there is no mark further on".into());
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

    /// Nothing that was asked for is awaited any more.
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

    /// Loads what is around a moment, and looks at it.
    pub fn around(&mut self, wall_ms: i64) -> Action {
        self.ask(wall_ms.saturating_sub(self.reach_ms()), i64::MAX, Purpose::Around(wall_ms))
    }

    /// Goes to the end of the record and stays there.
    pub fn newest(&mut self) -> Action {
        self.ask(self.newest_ms.saturating_sub(2 * self.reach_ms()), i64::MAX, Purpose::Newest)
    }

    pub(super) fn reach_ms(&self) -> i64 {
        let interval_ms = self.timeline.current().map_or(1_000, |sample| i64::from(sample.interval_ms));
        interval_ms.max(100) * BEFORE
    }
}
