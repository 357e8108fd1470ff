//! `ctl top`: passes keys, record data and clock ticks to the model, and draws the model on the screen.

mod watch;

use std::{thread, time::Duration};

use ::record::Columns;
use jiff::{Timestamp, Zoned, tz::TimeZone};
use ratatui::crossterm::event::{self, Event};
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::AbortHandle,
    time::interval,
};

use crate::steps::reading;
use crate::{
    cli::{Cli, Top as Args},
    error::{Error, Kind, Result},
    record::{
        marks::{Marks, RunMark},
        source::{Detail, Filter, Opened, Piece, Source},
        time::{Edge, parse_time, timestamp},
        top::{Action, Answer, Link, Purpose, Request, Search, State},
    },
    render::record::top::{Look, Screen},
};

/// How often the screen is redrawn without news, because it shows ages.
const TICK: Duration = Duration::from_secs(1);
/// Capacity of the news queue.
const QUEUE: usize = 64;

/// `ctl top`
pub(in crate::commands) async fn top(cli: &Cli, args: &Args) -> Result<()> {
    Screen::check()?;
    let source = reading::source(cli, &args.place).await?;
    let zone = TimeZone::system();
    let (mut state, newest, range) = begin(args, &source).await?;
    let action = match &args.at {
        Some(text) => state.around(moment(text, &newest.to_zoned(zone.clone()), range)?.as_millisecond()),
        None => state.newest(),
    };
    let (news, coming) = mpsc::channel(QUEUE);
    let screen = Screen::open()?;
    read_keys(news.clone());
    let looking = Looking { state, source: source.clone(), news: news.clone(), loading: None };
    select! {
        ended = looking.go_on(action, coming, screen, zone) => ended,
        never = watch::watch(cli, &args.place, source, news) => never,
    }
}

/// The time that `--at` names. It must be in the record: the nearest sample to another time would pass for that time's.
fn moment(text: &str, now: &Zoned, range: Option<(i64, i64)>) -> Result<Timestamp> {
    let at = parse_time(text, now, Edge::Begin)?;
    let now_ms = now.timestamp().as_millisecond();
    let (oldest_ms, newest_ms) = range.unwrap_or((i64::MIN, now_ms));
    // In whole seconds, as people type them.
    let second = |ms: i64| ms.div_euclid(1_000);
    if (second(oldest_ms)..=second(newest_ms.max(now_ms))).contains(&second(at.as_millisecond())) {
        return Ok(at);
    }
    let zone = now.time_zone();
    let asked = at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
    let hint = reading::range_sentence(range, zone);
    Err(Error::invalid(format!("there are no samples at {asked}"))
        .hint(hint.unwrap_or_else(|| "the record is empty".to_owned())))
}

/// The initial state, the time that `--at` counts back from (the host's clock, or the newest sample on the disk of a dead
/// host), and the time range of the record.
async fn begin(args: &Args, source: &Source) -> Result<(State, Timestamp, Option<(i64, i64)>)> {
    let (info, now) = (source.info().await?, Timestamp::now());
    let range = (info.samples > 0).then_some((info.oldest_unix_ms, info.newest_unix_ms));
    let recorded = range.map(|(_, newest)| timestamp(newest));
    let (link, newest) = match source {
        Source::Host { .. } => (Link::Connecting, reading::host_time(&info, now)),
        Source::Directory(_) => (Link::Disk, recorded.unwrap_or(now)),
    };
    let mut state = State::new(&title(args), link, recorded.unwrap_or(now).as_millisecond());
    state.runs = runs(source).await;
    state.gaps = info.gaps.iter().map(|gap| gap.until_unix_ms).collect();
    Ok((state, newest, range))
}

fn title(args: &Args) -> String {
    let directory = || args.place.from_dir.as_ref().map(|path| path.display().to_string());
    args.place.host.clone().or_else(directory).unwrap_or_default()
}

/// The run marks; empty if they cannot be read, since a record without them is still worth reading.
async fn runs(source: &Source) -> Vec<RunMark> {
    Marks::of(&source.runs().await.unwrap_or_default()).until(Timestamp::MAX).collect()
}

/// An event for the main loop.
enum News {
    /// A terminal event, such as a key or a new size; `None` if the terminal is gone.
    Terminal(Option<Event>),
    /// The host took a sample.
    Sample(Box<::record::Sample>),
    /// The current list of runs.
    Runs(Vec<RunMark>),
    /// The host answers (again); this is the connection to read from.
    Up(Source),
    /// The host does not answer, and why.
    Down(String),
    /// A read of the record finished.
    Answer(Request, std::result::Result<Answer, String>),
}

/// Reads terminal events in a thread, because reading blocks. The thread ends with the program.
fn read_keys(news: mpsc::Sender<News>) {
    thread::spawn(move || {
        loop {
            let event = event::read().ok();
            let gone = event.is_none();
            if news.blocking_send(News::Terminal(event)).is_err() || gone {
                return;
            }
        }
    });
}

/// The model, its record source and its event queue.
struct Looking {
    state: State,
    source: Source,
    news: mpsc::Sender<News>,
    loading: Option<AbortHandle>,
}

impl Looking {
    async fn go_on(
        mut self,
        first: Action,
        mut coming: mpsc::Receiver<News>,
        mut screen: Screen,
        zone: TimeZone,
    ) -> Result<()> {
        let unusable = |error| Error::invalid(format!("cannot handle signals: {error}"));
        let mut ended = signal(SignalKind::terminate()).map_err(unusable)?;
        let mut hung_up = signal(SignalKind::hangup()).map_err(unusable)?;
        let mut tick = interval(TICK);
        let mut look = Look { now_ms: 0, zone, colour: Screen::colour() };
        let mut action = first;
        loop {
            match action {
                Action::Quit => return Ok(()),
                Action::Load(request) => self.load(request),
                Action::Show => {}
            }
            look.now_ms = Timestamp::now().as_millisecond();
            screen.show(&self.state, &look)?;
            action = select! {
                Some(news) = coming.recv() => self.take(news),
                _ = tick.tick() => Action::Show,
                _ = tokio::signal::ctrl_c() => Action::Quit,
                _ = ended.recv() => return Err(Error::new(Kind::Interrupted, "terminated")),
                _ = hung_up.recv() => Action::Quit,
            };
        }
    }

    fn take(&mut self, news: News) -> Action {
        match news {
            News::Terminal(Some(Event::Key(key))) => return self.state.key(key),
            News::Terminal(Some(_)) => {}
            News::Terminal(None) => return Action::Quit,
            News::Sample(sample) => {
                self.state.link = Link::Up;
                self.state.sampled(*sample);
            }
            News::Runs(runs) => self.state.runs = runs,
            News::Up(source) => {
                self.source = source;
                self.state.link = Link::Up;
            }
            News::Down(why) => self.state.link = Link::Down(why),
            News::Answer(request, answer) => return self.state.loaded(request, answer),
        }
        Action::Show
    }

    /// Starts a read and aborts the previous one, whose answer is no longer needed.
    fn load(&mut self, request: Request) {
        if let Some(before) = self.loading.take() {
            before.abort();
        }
        let (source, news) = (self.source.clone(), self.news.clone());
        let task = tokio::spawn(async move {
            let answer = read(&source, request).await.map_err(|error| error.to_string());
            // Sending fails only when the program ends.
            let _ = news.send(News::Answer(request, answer)).await;
        });
        self.loading = Some(task.abort_handle());
    }
}

async fn read(source: &Source, request: Request) -> Result<Answer> {
    let Request { from_ms, until_ms, .. } = request;
    let columns = match request.purpose {
        Purpose::NextMark(_) | Purpose::PreviousMark(_) => Columns::NONE,
        _ => Columns::ALL,
    };
    let filter = Filter { contents: request.contents(), ..Filter::between(from_ms, until_ms) };
    let (mut search, mut more) = (Search::new(request), true);
    let mut blocks = source.read(&filter).await?;
    while let Some(block) = blocks.next().await?.filter(|_| more) {
        Opened::new(block, &Detail::of(columns)).each(|piece| {
            match piece {
                Piece::Sample(sample) if more => more = search.push(sample),
                Piece::Sample(_) => {}
                Piece::Lost(sentence) => search.lose(sentence),
            }
            Ok(())
        })?;
        // Reading from a disk never awaits: let other tasks run.
        tokio::task::yield_now().await;
    }
    Ok(search.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_outside_the_record_is_refused() {
        let ms = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        let now = timestamp(ms("2026-07-13T17:21:00.5Z")).to_zoned(TimeZone::UTC);
        let range = Some((ms("2026-07-13T16:00:00.3Z"), ms("2026-07-13T17:20:59.5Z")));
        let at = |text, range| moment(text, &now, range).map(|at| at.to_string());
        for (text, expected) in [
            ("17:00", "2026-07-13T17:00:00Z"),
            ("16:00:00", "2026-07-13T16:00:00Z"),
            ("now", "2026-07-13T17:21:00.5Z"),
        ] {
            assert_eq!(at(text, range).unwrap(), expected);
        }
        for (text, expected) in [
            ("17:59", "there are no samples at 2026-07-12 17:59:00"),
            ("2026-07-13 17:59", "there are no samples at 2026-07-13 17:59:00"),
            ("15:59:59", "there are no samples at 2026-07-13 15:59:59"),
        ] {
            let error = at(text, range).unwrap_err();
            let hint = "the record covers 2026-07-13 16:00:00 to 2026-07-13 17:20:59";
            assert_eq!((error.to_string().as_str(), error.hints()), (expected, &[hint.to_owned()][..]));
        }
        // The record may reach back to yesterday, or be empty.
        let longer = Some((ms("2026-07-12T06:00:00Z"), ms("2026-07-13T17:20:59.5Z")));
        assert_eq!(at("17:59", longer).unwrap(), "2026-07-12T17:59:00Z");
        assert_eq!(at("17:59", None).unwrap(), "2026-07-12T17:59:00Z");
    }
}
