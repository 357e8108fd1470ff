//! One watch of a directory for any number of followers: the kernel has few inotify instances for each user (128 by
//! default, see inotify(7)), and runs need some too.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use inotify::{EventStream, Inotify, WatchMask};
use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior, interval},
};
use tokio_stream::StreamExt;

/// How often followers look where nothing tells of changes: as often as there is a sample.
const LOOK: Duration = Duration::from_secs(1);

/// Tells when something in a directory has changed. It watches only while somebody follows.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    directory: PathBuf,
    watcher: Arc<Mutex<Option<watch::Sender<()>>>>,
}

impl Changes {
    /// Of this directory, which is created when it is first followed.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, watcher: Arc::default() }
    }

    /// Every change from now on; several may be told as one.
    ///
    /// # Errors
    /// There is no such directory, and it cannot be created.
    pub(super) fn follow(&self) -> io::Result<watch::Receiver<()>> {
        let mut watcher = self.watcher();
        if let Some(sender) = &*watcher {
            return Ok(sender.subscribe());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let (sender, receiver) = watch::channel(());
        *watcher = Some(sender.clone());
        tokio::spawn(self.clone().watch(self.source(), sender));
        Ok(receiver)
    }

    fn source(&self) -> Source {
        let events = Inotify::init().and_then(|inotify| {
            inotify.watches().add(&self.directory, WatchMask::MODIFY | WatchMask::MOVED_TO)?;
            inotify.into_event_stream([0; 1024])
        });
        events.map(Source::Events).unwrap_or_else(|error| {
            tracing::warn!("{} is looked at every second: {error}", self.directory.display());
            Source::clock()
        })
    }

    async fn watch(self, mut source: Source, sender: watch::Sender<()>) {
        loop {
            tokio::select! {
                () = source.next() => { sender.send_replace(()); }
                () = sender.closed() => {
                    let mut watcher = self.watcher();
                    // Somebody may have come in the meantime.
                    if sender.receiver_count() == 0 {
                        *watcher = None;
                        return;
                    }
                }
            }
        }
    }

    fn watcher(&self) -> MutexGuard<'_, Option<watch::Sender<()>>> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells of changes.
enum Source {
    Events(EventStream<[u8; 1024]>),
    /// Nothing does.
    Clock(Interval),
}

impl Source {
    fn clock() -> Self {
        let mut clock = interval(LOOK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self::Clock(clock)
    }

    async fn next(&mut self) {
        match self {
            Self::Events(events) => {
                if !matches!(events.next().await, Some(Ok(_))) {
                    *self = Self::clock();
                }
            }
            Self::Clock(clock) => {
                clock.tick().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// This process's inotify instances.
    fn instances() -> usize {
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
        descriptors
            .filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.ends_with("anon_inode:inotify")))
            .count()
    }

    #[tokio::test]
    async fn many_followers_have_one_watch_which_ends_with_them() {
        let root = tempfile::tempdir().unwrap();
        let changes = Changes::new(root.path().join("history"));
        let before = instances();
        let mut followers: Vec<_> = (0..200).map(|_| changes.follow().unwrap()).collect();
        // Other tests may watch something as well.
        assert!(instances() < before + 100);
        fs::write(root.path().join("history/a"), "a").unwrap();
        for follower in &mut followers {
            follower.changed().await.unwrap();
        }
        drop(followers);
        while changes.watcher().is_some() {
            tokio::task::yield_now().await;
        }
        let mut again = changes.follow().unwrap();
        fs::write(root.path().join("history/a"), "b").unwrap();
        again.changed().await.unwrap();
    }
}
