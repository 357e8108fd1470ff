//! `ctl top`: passes keys, record data and clock ticks to the model, and draws the model on the screen.

mod watch;

use std::{thread, time::Duration};

use ::record::Columns;
use jiff::{Timestamp, tz::TimeZone};
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
    let (mut state, newest) = begin(args, &source).await?;
    let action = match &args.at {
        Some(text) => {
            let at = parse_time(text, &newest.to_zoned(zone.clone()), Edge::Begin)?;
            state.around(at.as_millisecond())
        }
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

/// The initial state, and the time that `--at` counts back from: the host's clock, or the newest sample on the disk of
/// a dead host.
async fn begin(args: &Args, source: &Source) -> Result<(State, Timestamp)> {
    let (info, now) = (source.info().await?, Timestamp::now());
    let recorded = (info.samples > 0).then(|| timestamp(info.newest_unix_ms));
    let (link, newest) = match source {
        Source::Host { .. } => (Link::Connecting, reading::host_time(&info, now)),
        Source::Directory(_) => (Link::Disk, recorded.unwrap_or(now)),
    };
    let mut state = State::new(&title(args), link, recorded.unwrap_or(now).as_millisecond());
    state.runs = runs(source).await;
    state.gaps = info.gaps.iter().map(|gap| gap.until_unix_ms).collect();
    Ok((state, newest))
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
