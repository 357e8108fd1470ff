//! Replays a run's events from an offset, then follows until the run has ended.

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

/// How often the standing of a quiet run is looked at: the death of a supervisor changes no file.
const LOOK: Duration = Duration::from_secs(1);
/// How often a run that cannot be watched is looked at.
const POLL: Duration = Duration::from_millis(200);
/// How much of a spool is read in one look, in bytes, give or take an event.
const CHUNK: u64 = 256 << 10;

/// Sends the events after `offset`, as they come. Returns when the run has ended or nobody listens any more.
///
/// The last event is the summary; of an interrupted run, its state.
///
/// # Errors
/// When the run's files cannot be read.
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
        (place, look) = looking.await.map_err(|gone| Error::system("cannot look")(io::Error::other(gone)))?;
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

/// What says that a run's directory has changed.
enum Changes {
    /// The kernel.
    Watched(EventStream<Vec<u8>>),
    /// Nothing: it is looked at again and again.
    Polled,
}

impl Changes {
    /// Polls where the kernel has no watch left (inotify(7), `max_user_instances`).
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

/// How far a run has been followed.
struct Place {
    directory: RunDirectory,
    boot_id: String,
    offset: u64,
    reader: Option<Reader>,
}

/// What one look has found.
struct Look {
    events: Vec<pb::Event>,
    next: Next,
}

/// What is to be expected after it.
enum Next {
    /// More right away.
    More,
    /// More when something changes.
    Later,
    /// No more.
    Nothing,
}

impl Place {
    fn look(&mut self) -> Result<Look, Error> {
        // The standing first: what an ended run wrote is then all there to be read.
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

    /// The next event, once there is a spool and one in it.
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

    /// The last event of a run whose spool has none: interrupted, or killed between its result and its summary event.
    fn farewell(&self, standing: &Standing) -> Result<Option<pb::Event>, Error> {
        let (time_unix_ms, what) = match standing {
            Standing::Interrupted(_) => {
                (unix_ms(SystemTime::now()), What::State(pb::RunState::Interrupted.into()))
            }
            // While the supervisor lives its summary event is on its way.
            Standing::Ended(run) if self.directory.supervisor()? != Supervisor::Alive => {
                (run.finished_unix_ms, What::Summary(run.summary.clone().unwrap_or_default()))
            }
            _ => return Ok(None),
        };
        Ok(Some(pb::Event { next_offset: self.offset, time_unix_ms, what: Some(what) }))
    }
}
