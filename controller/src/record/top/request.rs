//! Requests from the model to the record, and bounded collection of the answers.

use std::{collections::VecDeque, sync::Arc};

use record::{Contents, Sample};

use super::{
    marks::{MarkKind, Watch},
    place::Place,
    timeline::MAX_PROCESSES,
};

/// Number of samples loaded per request.
const CHUNK: usize = 300;

/// A part of the record to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Distinguishes this request's answer from older ones.
    pub id: u64,
    /// Start, wall time in ms since the Unix epoch; [`i64::MIN`] is the start of the record.
    pub from_ms: i64,
    /// End, wall time in ms since the Unix epoch; [`i64::MAX`] is the end of the record.
    pub until_ms: i64,
    /// Purpose of the request.
    pub purpose: Purpose,
}

/// Purpose of a request. Wall times are in ms since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Load the samples before this position and move to the last of them.
    Before(Place),
    /// Load the samples after this position and move to the first of them.
    After(Place),
    /// Load the samples around a wall time and move to that time.
    Around(i64),
    /// Go to the start of the record.
    Oldest,
    /// Go to the end of the record and follow it.
    Newest,
    /// Find the first mark after this wall time.
    NextMark(i64),
    /// Find the last mark before this wall time.
    PreviousMark(i64),
}

/// The answer to a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// Samples, oldest first.
    pub samples: Vec<Arc<Sample>>,
    /// Wall time of the sample with the requested mark, ms since the Unix epoch.
    pub mark: Option<i64>,
    /// Messages about unreadable parts of the record.
    pub lost: Vec<String>,
}

impl Request {
    /// Only blocks with any of these contents need to be read; empty means all blocks.
    pub(crate) fn contents(&self) -> Contents {
        match self.purpose {
            Purpose::NextMark(_) | Purpose::PreviousMark(_) => {
                Contents::KERNEL.with(Contents::OOM_KILLS).with(Contents::NOTES)
            }
            _ => Contents::default(),
        }
    }
}

/// Collects an answer, holding only as many samples as requested.
#[derive(Debug)]
pub(crate) struct Search {
    request: Request,
    samples: VecDeque<Arc<Sample>>,
    processes: usize,
    watch: Watch,
    mark: Option<i64>,
    lost: Vec<String>,
    /// The position of [`Purpose::After`] was passed.
    passed: bool,
}

impl Search {
    /// An empty search.
    pub(crate) fn new(request: Request) -> Self {
        let (samples, watch) = (VecDeque::new(), Watch::default());
        Self { request, samples, processes: 0, watch, mark: None, lost: Vec::new(), passed: false }
    }

    /// Takes the next sample of the record. Returns whether more samples are needed.
    pub(crate) fn push(&mut self, sample: &Sample) -> bool {
        let early = sample.wall_ms < self.request.from_ms;
        match self.request.purpose {
            Purpose::Before(place) if place.is_not_after(sample) => false,
            Purpose::After(place) if place.is_after(sample) || place == Place::of(sample) => self.pass(),
            Purpose::Around(_) | Purpose::Newest if early => true,
            Purpose::Before(_) | Purpose::Newest => self.keep_last(sample),
            Purpose::After(_) if !self.passed && self.is_full() => true,
            Purpose::After(_) => self.keep_first(sample) || !self.passed,
            Purpose::Around(_) | Purpose::Oldest => self.keep_first(sample),
            Purpose::NextMark(after_ms) => {
                self.mark = (self.has_mark(sample) && sample.wall_ms > after_ms).then_some(sample.wall_ms);
                self.mark.is_none()
            }
            Purpose::PreviousMark(before_ms) => {
                if self.has_mark(sample) && sample.wall_ms < before_ms {
                    self.mark = Some(sample.wall_ms);
                }
                true
            }
        }
    }

    /// Drops all samples so far: they are earlier, even if the clock was ahead then.
    fn pass(&mut self) -> bool {
        self.samples.clear();
        self.processes = 0;
        self.passed = true;
        true
    }

    fn keep_first(&mut self, sample: &Sample) -> bool {
        self.processes += sample.processes.len();
        self.samples.push_back(Arc::new(sample.clone()));
        !self.is_full()
    }

    fn keep_last(&mut self, sample: &Sample) -> bool {
        self.keep_first(sample);
        while self.is_full() && self.samples.len() > 1 {
            self.processes -= self.samples.pop_front().map_or(0, |sample| sample.processes.len());
        }
        true
    }

    fn is_full(&self) -> bool {
        self.samples.len() >= CHUNK || self.processes >= MAX_PROCESSES / 2
    }

    /// Whether a sample shows a mark. Blocks may have been skipped, so gaps and restarts do not count.
    fn has_mark(&mut self, sample: &Sample) -> bool {
        let marks = self.watch.marks(sample);
        marks.iter().any(|(kind, _)| !matches!(kind, MarkKind::Gap | MarkKind::Restart))
    }

    /// Takes a message about an unreadable part of the record.
    pub(crate) fn lose(&mut self, sentence: &str) {
        // A few are enough.
        if self.lost.len() < 3 {
            self.lost.push(sentence.to_owned());
        }
    }

    /// Returns the answer.
    pub(crate) fn finish(self) -> Answer {
        Answer { samples: self.samples.into(), mark: self.mark, lost: self.lost }
    }
}
