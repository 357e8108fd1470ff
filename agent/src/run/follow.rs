//! Replays a run's events from an offset, then follows until the run has ended.

use std::{
    io,
    time::{Duration, SystemTime},
};

use inotify::{Inotify, WatchMask};
use proto::pb::{self, event::What};
use tokio::{sync::mpsc::Sender, time::timeout};
use tokio_stream::StreamExt;

use super::{Error, RunDirectory, spool::Reader, standing::Standing, unix_ms};

/// How often the standing of a quiet run is looked at: the death of a supervisor changes no file.
const LOOK: Duration = Duration::from_secs(1);

/// Sends the events after `offset`, as they come. Returns when the run has ended or nobody listens any more.
///
/// The last event is the summary; of an interrupted run, its state.
///
/// # Errors
/// When the run's files cannot be read.
pub async fn follow(
    directory: &RunDirectory,
    offset: u64,
    boot_id: &str,
    to: &Sender<Result<pb::Event, Error>>,
) -> Result<(), Error> {
    let inotify = Inotify::init().map_err(Error::system("cannot watch"))?;
    let mask = WatchMask::CREATE | WatchMask::MODIFY | WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE;
    inotify.watches().add(directory.path(), mask).map_err(Error::file("cannot watch", directory.path()))?;
    let mut changes = inotify.into_event_stream([0; 4096]).map_err(Error::system("cannot watch"))?;
    let mut reader = None;
    loop {
        // The standing first: what an ended run wrote is then all there to be read.
        let standing = directory.standing(boot_id, unix_ms(SystemTime::now()))?;
        if let Some(reader) = open(&mut reader, directory, offset)? {
            while let Some(event) = reader.next().map_err(Error::file("cannot read", &directory.events()))? {
                let last = matches!(event.what, Some(What::Summary(_)));
                if to.send(Ok(event)).await.is_err() || last {
                    return Ok(());
                }
            }
        }
        let at = reader.as_ref().map_or(offset, Reader::offset);
        if let Some(event) = farewell(&standing, directory, at)? {
            let _ = to.send(Ok(event)).await;
            return Ok(());
        }
        tokio::select! {
            _ = timeout(LOOK, changes.next()) => {}
            () = to.closed() => return Ok(()),
        }
    }
}

/// The reader, once there is a spool.
fn open<'a>(
    reader: &'a mut Option<Reader>,
    directory: &RunDirectory,
    offset: u64,
) -> Result<Option<&'a mut Reader>, Error> {
    if reader.is_none() {
        let events = directory.events();
        match Reader::open(&events, offset) {
            Ok(opened) => *reader = Some(opened),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("cannot read", &events)(error)),
        }
    }
    Ok(reader.as_mut())
}

/// The last event of a run whose spool has none: interrupted, or killed between its result and its summary event.
fn farewell(standing: &Standing, directory: &RunDirectory, at: u64) -> Result<Option<pb::Event>, Error> {
    let (time_unix_ms, what) = match standing {
        Standing::Interrupted(_) => {
            (unix_ms(SystemTime::now()), What::State(pb::RunState::Interrupted.into()))
        }
        // While the supervisor lives its summary event is on its way.
        Standing::Ended(run) if directory.supervisor()? != super::standing::Supervisor::Alive => {
            (run.finished_unix_ms, What::Summary(run.summary.clone().unwrap_or_default()))
        }
        _ => return Ok(None),
    };
    Ok(Some(pb::Event { next_offset: at, time_unix_ms, what: Some(what) }))
}
