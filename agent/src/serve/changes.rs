//! One directory watch for all followers: each user has few inotify instances (128 by default, see inotify(7)), and
//! runs need some as well.

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

/// How often followers check without change events: once for each sample.
const LOOK: Duration = Duration::from_secs(1);

/// Reports changes in a directory. Watches only while there are followers.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    directory: PathBuf,
    watcher: Arc<Mutex<Option<watch::Sender<()>>>>,
}

impl Changes {
    /// Changes in `directory`, which is created by the first follower.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, watcher: Arc::default() }
    }

    /// Reports every change from now on; may combine several changes.
    ///
    /// # Errors
    /// If the directory does not exist and cannot be created.
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
        events.map(|events| Source::Events(Box::new(events))).unwrap_or_else(|error| {
            tracing::warn!("cannot watch {}, checking it every second: {error}", self.directory.display());
            Source::clock()
        })
    }

    async fn watch(self, mut source: Source, sender: watch::Sender<()>) {
        loop {
            tokio::select! {
                () = source.next() => { sender.send_replace(()); }
                () = sender.closed() => {
                    let mut watcher = self.watcher();
                    // A new follower may have arrived in the meantime.
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

/// Where change reports come from.
enum Source {
    Events(Box<EventStream<[u8; 1024]>>),
    /// No watch: a timer.
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

    /// The number of inotify instances in this process.
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
        // Other tests may use instances as well.
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
