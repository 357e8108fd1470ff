//! Replays a run's events from an offset, then follows new ones until the run ends.

use std::{
    io,
    time::{Duration, SystemTime},
};

use inotify::{EventStream, Inotify, WatchMask};
use proto::pb::{self, event::What};
use tokio::{
    sync::mpsc::Sender,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_stream::StreamExt;

use super::{
    Error, RunDirectory,
    spool::Reader,
    standing::{Standing, Supervisor},
    unix_ms,
};

/// Interval for checking the state of a quiet run: a supervisor's death changes no file.
const LOOK: Duration = Duration::from_secs(1);
/// Interval for checking a run that cannot be watched.
const POLL: Duration = Duration::from_millis(200);
/// Approximate number of bytes read from a spool at once.
const CHUNK: u64 = 256 << 10;

/// Sends the events after `offset`, then new events. Returns when the run has ended or the receiver is dropped.
///
/// The last event is the summary, or the state of an interrupted run.
///
/// # Errors
/// If the run's files cannot be read.
pub async fn follow(
    directory: RunDirectory,
    offset: u64,
    boot_id: String,
    to: &Sender<Result<pb::Event, Error>>,
) -> Result<(), Error> {
    let mut changes = Changes::watch(&directory);
    let mut place = Place { directory, boot_id, offset, reader: None };
    loop {
        let looking = spawn_blocking(move || {
            let look = place.look();
            (place, look)
        });
        let look;
        (place, look) =
            looking.await.map_err(|gone| Error::system("cannot read the run")(io::Error::other(gone)))?;
        let Look { events, next } = look?;
        for event in events {
            if to.send(Ok(event)).await.is_err() {
                return Ok(());
            }
        }
        match next {
            Next::More => {}
            Next::Nothing => return Ok(()),
            Next::Later => tokio::select! {
                () = changes.next() => {}
                () = to.closed() => return Ok(()),
            },
        }
    }
}

/// Where reports of changes in a run's directory come from.
enum Changes {
    /// inotify.
    Watched(EventStream<Vec<u8>>),
    /// A timer.
    Polled,
}

impl Changes {
    /// Polls if no inotify instance is left (inotify(7), `max_user_instances`).
    fn watch(directory: &RunDirectory) -> Self {
        let mask = WatchMask::CREATE | WatchMask::MODIFY | WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE;
        let watched = Inotify::init().and_then(|inotify| {
            inotify.watches().add(directory.path(), mask)?;
            inotify.into_event_stream(vec![0; 4096])
        });
        watched.map_or_else(
            |error| {
                tracing::warn!("cannot watch {}: {error}; polling it", directory.path().display());
                Self::Polled
            },
            Self::Watched,
        )
    }

    /// Returns when something may have changed.
    async fn next(&mut self) {
        match self {
            Self::Watched(changes) => drop(timeout(LOOK, changes.next()).await),
            Self::Polled => sleep(POLL).await,
        }
    }
}

/// The position reached in a run's events.
struct Place {
    directory: RunDirectory,
    boot_id: String,
    offset: u64,
    reader: Option<Reader>,
}

/// The result of one read.
struct Look {
    events: Vec<pb::Event>,
    next: Next,
}

/// What to do after a read.
enum Next {
    /// Read again at once.
    More,
    /// Read again after a change.
    Later,
    /// Stop: the run has ended.
    Nothing,
}

impl Place {
    fn look(&mut self) -> Result<Look, Error> {
        // Get the state first: once a run has ended, all its events can be read.
        let standing = self.directory.standing(&self.boot_id, unix_ms(SystemTime::now()))?;
        let mut events = Vec::new();
        let end = self.offset.saturating_add(CHUNK);
        while self.offset < end {
            let Some(event) = self.read()? else {
                let farewell = self.farewell(&standing)?;
                let next = if farewell.is_some() { Next::Nothing } else { Next::Later };
                events.extend(farewell);
                return Ok(Look { events, next });
            };
            self.offset = event.next_offset;
            let is_last = matches!(event.what, Some(What::Summary(_)));
            events.push(event);
            if is_last {
                return Ok(Look { events, next: Next::Nothing });
            }
        }
        Ok(Look { events, next: Next::More })
    }

    /// The next event; `None` if there is none yet.
    fn read(&mut self) -> Result<Option<pb::Event>, Error> {
        let events = self.directory.events();
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => match Reader::open(&events, self.offset) {
                Ok(reader) => none.insert(reader),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(Error::file("cannot read", &events)(error)),
            },
        };
        reader.next().map_err(Error::file("cannot read", &events))
    }

    /// The last event of a run without one in its spool: interrupted, or killed between its result and its summary
    /// event.
    fn farewell(&self, standing: &Standing) -> Result<Option<pb::Event>, Error> {
        let (time_unix_ms, what) = match standing {
            Standing::Interrupted(_) => {
                (unix_ms(SystemTime::now()), What::State(pb::RunState::Interrupted.into()))
            }
            // As long as the supervisor lives, its summary event will follow.
            Standing::Ended(run) if self.directory.supervisor()? != Supervisor::Alive => {
                (run.finished_unix_ms, What::Summary(run.summary.clone().unwrap_or_default()))
            }
            _ => return Ok(None),
        };
        Ok(Some(pb::Event { next_offset: self.offset, time_unix_ms, what: Some(what) }))
    }
}
