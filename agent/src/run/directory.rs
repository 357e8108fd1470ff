//! The files of one run, and the formats of its request and its result.
//!
//! ```text
//! runs/<id>/request.pb   Intent, always present (the directory appears by one rename)
//! runs/<id>/lock         flocked by the supervisor while it lives; exists once the supervisor has started
//! runs/<id>/events       see `spool`
//! runs/<id>/stdin        the command's standard input; the supervisor opens and then removes it
//! runs/<id>/cancel       exists after a cancel request, and contains the user's name
//! runs/<id>/result.pb    pb::Run with its summary, exists once the run has ended
//! runs/<id>/result.new   space reserved for the result, for a run that fills the disk
//! runs/<id>/puppet/      Puppet's input and output: facts.d, log.jsonl, report.json …
//! ```

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use prost::Message;
use proto::pb;

use super::{
    Error, spool,
    standing::{self, Intent, Standing, Supervisor},
};
use crate::{durable, paths::Paths};

/// Prefix of directories that are not runs yet.
const NEW: &str = ".new-";
/// Prefix of directories of removed runs.
const GONE: &str = ".gone-";

/// Space for the part of a result that the request does not contain, in bytes.
const SUMMARY_ROOM: usize = 8 << 10;

/// The directory of one run.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// Creates the directory of a new run by one rename, which makes the run queued.
    ///
    /// # Errors
    /// If the run exists already or the disk fails.
    pub fn create(paths: &Paths, id: &str, intent: &Intent) -> Result<Self, Error> {
        Self::create_with_input(paths, id, intent, &[])
    }

    /// Creates the directory with `stdin` as the standard input of the run's command.
    ///
    /// See [`RunDirectory::create`].
    /// As [`RunDirectory::create`].
    pub fn create_with_input(paths: &Paths, id: &str, intent: &Intent, stdin: &[u8]) -> Result<Self, Error> {
        let (path, staging) = (paths.run(id), paths.runs().join(format!("{NEW}{id}")));
        if let Err(source) = fs::remove_dir_all(&staging)
            && source.kind() != io::ErrorKind::NotFound
        {
            return Err(Error::File { action: "cannot remove", path: staging, source });
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&staging)
            .map_err(Error::file("cannot make", &staging))?;
        let request = intent.encode_to_vec();
        let room = request.len() + SUMMARY_ROOM;
        durable::write(&staging.join("request.pb"), &request)
            .and_then(|()| durable::reserve(&staging.join("result.pb"), room))
            .map_err(Error::file("cannot write to", &staging))?;
        if !stdin.is_empty() {
            fs::write(staging.join("stdin"), stdin).map_err(Error::file("cannot write to", &staging))?;
        }
        fs::rename(&staging, &path)
            .and_then(|()| durable::sync_parent(&path))
            .map_err(Error::file("cannot make", &path))?;
        Ok(Self { path })
    }

    /// The directory of run `id`; `None` if there is no such run.
    pub fn open(paths: &Paths, id: &str) -> Option<Self> {
        let path = paths.run(id);
        (super::is_run_id(id) && path.join("request.pb").exists()).then_some(Self { path })
    }

    /// All runs, in no particular order; none if the directory of runs does not exist yet.
    ///
    /// # Errors
    /// If the directory of runs cannot be read.
    pub fn all(paths: &Paths) -> Result<Vec<Self>, Error> {
        let runs = paths.runs();
        let entries = match fs::read_dir(&runs) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file("cannot read", &runs)(error)),
        };
        Ok(entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| Self::open(paths, &name))
            .collect())
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of the spool.
    pub fn events(&self) -> PathBuf {
        self.path.join("events")
    }

    /// Path of Puppet's directory.
    pub fn puppet(&self) -> PathBuf {
        self.path.join("puppet")
    }

    /// The run's request.
    ///
    /// # Errors
    /// If the file is missing or unreadable.
    pub fn intent(&self) -> Result<Intent, Error> {
        let path = self.path.join("request.pb");
        read_message(&path, "request")?.ok_or(Error::Corrupt { path, what: "request" })
    }

    /// The run's result; `None` if it has not ended.
    ///
    /// # Errors
    /// If the file is unreadable.
    pub fn result(&self) -> Result<Option<pb::Run>, Error> {
        read_message(&self.path.join("result.pb"), "result")
    }

    /// Stores the result, which ends the run.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn write_result(&self, result: &pb::Run) -> Result<(), Error> {
        let path = self.path.join("result.pb");
        durable::write(&path, &result.encode_to_vec()).map_err(Error::file("cannot write", &path))
    }

    /// Takes the run's lock, which is held until the file is dropped.
    ///
    /// The lock file appears by a hard link and is already locked: whoever finds it unlocked knows that its holder is
    /// gone. A link can be made only once, so only one of two supervisors gets the run.
    ///
    /// # Errors
    /// If another supervisor has taken the run, or the disk fails.
    pub fn hold(&self) -> Result<File, Error> {
        let (path, staging) =
            (self.path.join("lock"), self.path.join(format!("lock.{}", std::process::id())));
        let take = || {
            let file = File::create(&staging)?;
            file.lock()?;
            let linked = fs::hard_link(&staging, &path);
            fs::remove_file(&staging)?;
            linked.map(|()| file)
        };
        take().map_err(Error::file("cannot take", &path))
    }

    /// The supervisor's state, according to the lock.
    ///
    /// # Errors
    /// If the lock cannot be tested.
    pub fn supervisor(&self) -> Result<Supervisor, Error> {
        let path = self.path.join("lock");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Supervisor::NotStarted),
            Err(error) => return Err(Error::file("cannot open", &path)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Supervisor::Gone),
            Err(TryLockError::WouldBlock) => Ok(Supervisor::Alive),
            Err(TryLockError::Error(error)) => Err(Error::file("cannot lock", &path)(error)),
        }
    }

    /// Opens the command's standard input, if there is any, and removes the file name, so that no other process can read it.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn take_stdin(&self) -> Result<Option<File>, Error> {
        let path = self.path.join("stdin");
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened
                .and_then(|file| fs::remove_file(&path).map(|()| Some(file)))
                .map_err(Error::file("cannot open", &path)),
        }
    }

    /// Asks the supervisor to cancel the run on behalf of `user`. May be repeated; the first user counts.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn request_cancel(&self, user: &str) -> Result<(), Error> {
        let path = self.path.join("cancel");
        // The file appears with its content: the supervisor reads it at once.
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
            file.write_all(user.as_bytes())?;
            file.persist_noclobber(&path).map(drop).map_err(|refused| refused.error)
        };
        match write() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // A run that has filled the disk can still be cancelled: an empty file needs no block.
            Err(_) => File::create(&path).map(drop).map_err(Error::file("cannot make", &path)),
            Ok(()) => Ok(()),
        }
    }

    /// Whether a user has cancelled the run.
    pub fn cancel_requested(&self) -> bool {
        self.path.join("cancel").exists()
    }

    /// The user who cancelled the run, if known: requests of older agents contain no name.
    pub fn cancelled_by(&self) -> Option<String> {
        fs::read_to_string(self.path.join("cancel")).ok().filter(|user| !user.is_empty())
    }

    /// The state of the run.
    ///
    /// # Errors
    /// If its files cannot be read.
    pub fn standing(&self, boot_id: &str, now_unix_ms: i64) -> Result<Standing, Error> {
        // Check the lock before the result: a supervisor that ends in between has written a result.
        let supervisor = self.supervisor()?;
        Ok(standing::derive(&self.intent()?, self.result()?, supervisor, boot_id, now_unix_ms))
    }

    /// The run as callers see it, without what only its spool contains: an active run has the state `preparing` and no
    /// current resource. [`RunDirectory::look_closer`] adds those.
    ///
    /// # Errors
    /// If its files cannot be read.
    pub fn outline(&self, boot_id: &str, now_unix_ms: i64) -> Result<pb::Run, Error> {
        let standing = self.standing(boot_id, now_unix_ms)?;
        let mut run = match standing {
            Standing::Ended(run) => return Ok(*run),
            _ => self.intent()?.run.unwrap_or_default(),
        };
        match standing {
            Standing::Interrupted(why) => {
                run.set_state(pb::RunState::Interrupted);
                run.finished_unix_ms = self.last_sign_of_life(run.started_unix_ms);
                run.summary = Some(pb::Summary { failure: why.into(), ..pb::Summary::default() });
            }
            Standing::Active => run.set_state(pb::RunState::Preparing),
            Standing::Queued | Standing::Ended(_) => run.set_state(pb::RunState::Queued),
        }
        Ok(run)
    }

    /// Adds state and current resource to the outline of an active run. Reads the whole spool.
    ///
    /// # Errors
    /// If the spool cannot be read.
    pub fn look_closer(&self, outline: pb::Run) -> Result<pb::Run, Error> {
        if outline.state() != pb::RunState::Preparing {
            return Ok(outline);
        }
        let events = self.events();
        let latest = spool::latest(&events).map_err(Error::file("cannot read", &events))?;
        let state = latest.state.unwrap_or(pb::RunState::Preparing);
        Ok(pb::Run { state: state.into(), resource: latest.resource, ..outline })
    }

    /// Disk space of all files of the run, in bytes.
    pub fn size(&self) -> u64 {
        size(&self.path)
    }

    /// Removes the run. Renames the directory first, so that a partly removed run is never visible, even after a crash.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn remove(self) -> Result<(), Error> {
        let mut name = OsString::from(GONE);
        name.push(self.path.file_name().unwrap_or_default());
        let gone = self.path.with_file_name(name);
        fs::rename(&self.path, &gone).map_err(Error::file("cannot remove", &self.path))?;
        fs::remove_dir_all(&gone).map_err(Error::file("cannot remove", &gone))
    }

    /// Removes what incomplete creations and removals left when the host crashed. Must not run while another process
    /// creates or removes runs.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn sweep(paths: &Paths) -> Result<(), Error> {
        let entries = match fs::read_dir(paths.runs()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(Error::file("cannot read", &paths.runs()))?,
        };
        for entry in entries.flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            if [NEW, GONE].iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes())) {
                fs::remove_dir_all(&path).map_err(Error::file("cannot remove", &path))?;
            }
        }
        Ok(())
    }

    fn last_sign_of_life(&self, otherwise: i64) -> i64 {
        let modified = fs::metadata(self.events()).and_then(|metadata| metadata.modified());
        modified.map_or(otherwise, super::unix_ms)
    }
}

/// Disk space of all files below a directory, in bytes; does not follow symbolic links.
fn size(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

fn read_message<M: Message + Default>(path: &Path, what: &'static str) -> Result<Option<M>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file("cannot read", path)(error)),
    };
    M::decode(&*bytes).map(Some).map_err(|_| Error::Corrupt { path: path.to_owned(), what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(id: &str) -> Intent {
        let run =
            pb::Run { run_id: id.into(), user: "alice".into(), started_unix_ms: 5, ..pb::Run::default() };
        Intent { run: Some(run), boot_id: "boot".into() }
    }

    #[test]
    fn a_run_is_queued_then_held_then_interrupted_or_ended() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        let directory = RunDirectory::create(&paths, "r-1", &intent("r-1")).unwrap();
        let state = |directory: &RunDirectory| directory.outline("boot", 6).unwrap().state();
        assert_eq!(state(&directory), pb::RunState::Queued);
        let lock = directory.hold().unwrap();
        assert_eq!(state(&directory), pb::RunState::Preparing);
        drop(lock);
        await_release(&directory);
        assert_eq!(state(&directory), pb::RunState::Interrupted);
        assert!(!directory.outline("boot", 6).unwrap().summary.unwrap().failure.is_empty());
        let mut result = intent("r-1").run.unwrap();
        result.set_state(pb::RunState::Changed);
        directory.write_result(&result).unwrap();
        assert_eq!(directory.outline("other boot", 6).unwrap(), result);
    }

    #[test]
    fn the_first_canceller_is_named_and_input_is_taken_once() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        let directory = RunDirectory::create_with_input(&paths, "r-1", &intent("r-1"), b"in").unwrap();
        assert!(!directory.cancel_requested() && directory.cancelled_by().is_none());
        directory.request_cancel("bob").unwrap();
        directory.request_cancel("carol").unwrap();
        assert!(directory.cancel_requested());
        assert_eq!(directory.cancelled_by().as_deref(), Some("bob"));
        // Written by an older agent.
        fs::write(directory.path().join("cancel"), "").unwrap();
        assert!(directory.cancel_requested() && directory.cancelled_by().is_none());
        let input = directory.take_stdin().unwrap().unwrap();
        assert_eq!(io::read_to_string(input).unwrap(), "in");
        assert!(directory.take_stdin().unwrap().is_none());
    }

    #[test]
    fn a_run_is_taken_up_once_and_never_looks_abandoned_meanwhile() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        for n in 0..200 {
            let id = format!("r-{n}");
            let directory = RunDirectory::create(&paths, &id, &intent(&id)).unwrap();
            let watched = directory.clone();
            let watcher = std::thread::spawn(move || {
                let mut seen = watched.supervisor().unwrap();
                while seen == Supervisor::NotStarted {
                    seen = watched.supervisor().unwrap();
                }
                seen
            });
            let held = directory.hold().unwrap();
            assert_eq!(watcher.join().unwrap(), Supervisor::Alive);
            assert!(directory.hold().is_err());
            drop(held);
            assert!(directory.hold().is_err());
            await_release(&directory);
            assert_eq!(directory.supervisor().unwrap(), Supervisor::Gone);
        }
    }

    /// Children of other tests inherit all descriptors, and with them the lock, until they execute their program.
    fn await_release(directory: &RunDirectory) {
        File::open(directory.path.join("lock")).unwrap().lock_shared().unwrap();
    }

    #[test]
    fn a_second_run_of_one_id_is_refused_and_the_first_is_untouched() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        RunDirectory::create(&paths, "r-1", &intent("r-1")).unwrap();
        let other = Intent { boot_id: "other".into(), ..intent("r-1") };
        assert!(RunDirectory::create(&paths, "r-1", &other).is_err());
        assert_eq!(RunDirectory::open(&paths, "r-1").unwrap().intent().unwrap(), intent("r-1"));
    }

    #[test]
    fn what_is_not_a_run_is_not_listed_and_swept_away() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        assert!(RunDirectory::all(&paths).unwrap().is_empty());
        RunDirectory::create(&paths, "r-1", &intent("r-1")).unwrap();
        fs::create_dir(paths.runs().join(".new-r-2")).unwrap();
        fs::create_dir_all(paths.runs().join(".gone-r-3/puppet")).unwrap();
        fs::write(paths.apply_lock(), "").unwrap();
        assert_eq!(RunDirectory::all(&paths).unwrap().len(), 1);
        RunDirectory::sweep(&paths).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(paths.runs()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".apply.lock", "r-1"]);
        assert!(RunDirectory::open(&paths, "../runs/r-1").is_none());
    }
}
