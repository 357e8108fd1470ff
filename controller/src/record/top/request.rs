//! What the model asks of the record, and how an answer is gathered within bounds.

use std::{collections::VecDeque, sync::Arc};

use record::{Contents, Sample};

use super::{
    marks::{MarkKind, Watch},
    place::Place,
    timeline::MAX_PROCESSES,
};

/// Samples that are loaded at once.
const CHUNK: usize = 300;

/// Something to be read of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Tells its answer from that of an older request.
    pub id: u64,
    /// Wall time to begin at, ms since the Unix epoch; [`i64::MIN`] is the begin of the record.
    pub from_ms: i64,
    /// Wall time to end at; [`i64::MAX`] is the end of the record.
    pub until_ms: i64,
    /// What for.
    pub purpose: Purpose,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The samples before this one, to look at the last of them.
    Before(Place),
    /// The samples after this one, to look at the first of them.
    After(Place),
    /// Those around a wall time, to look at the sample of that time.
    Around(i64),
    /// The begin of the record.
    Oldest,
    /// The end of the record, to stay there.
    Newest,
    /// The first mark after this time.
    NextMark(i64),
    /// The last mark before this time.
    PreviousMark(i64),
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Samples, oldest first.
    pub samples: Vec<Arc<Sample>>,
    /// Wall time of the sample with the mark that was looked for.
    pub mark: Option<i64>,
    /// Sentences about what could not be read.
    pub lost: Vec<String>,
}

impl Request {
    /// Only blocks with any of this in them need to be read; nothing: all.
    pub fn contents(&self) -> Contents {
        match self.purpose {
            Purpose::NextMark(_) | Purpose::PreviousMark(_) => {
                Contents::KERNEL.with(Contents::OOM_KILLS).with(Contents::NOTES)
            }
            _ => Contents::default(),
        }
    }
}

/// An answer being gathered: of a long record no more is held than is asked for.
#[derive(Debug)]
pub struct Search {
    request: Request,
    samples: VecDeque<Arc<Sample>>,
    processes: usize,
    watch: Watch,
    mark: Option<i64>,
    lost: Vec<String>,
    /// The sample after which others are looked for was passed.
    passed: bool,
}

impl Search {
    /// Nothing found yet.
    pub fn new(request: Request) -> Self {
        let (samples, watch) = (VecDeque::new(), Watch::default());
        Self { request, samples, processes: 0, watch, mark: None, lost: Vec::new(), passed: false }
    }

    /// Takes the next sample of the record. Returns whether more are of use.
    pub fn push(&mut self, sample: &Sample) -> bool {
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

    /// What came so far is from before, though the clock may have been ahead then.
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

    /// Whether a sample shows a mark. Between blocks others may have been left out, so breaks do not count.
    fn has_mark(&mut self, sample: &Sample) -> bool {
        let marks = self.watch.marks(sample);
        marks.iter().any(|(kind, _)| !matches!(kind, MarkKind::Gap | MarkKind::Restart))
    }

    /// Takes a sentence about what cannot be read.
    pub fn lose(&mut self, sentence: &str) {
        // One says enough.
        if self.lost.len() < 3 {
            self.lost.push(sentence.to_owned());
        }
    }

    /// What was found.
    pub fn finish(self) -> Answer {
        Answer { samples: self.samples.into(), mark: self.mark, lost: self.lost }
    }
}
