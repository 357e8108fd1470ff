//! The files of one run, and the formats of its request and its result.
//!
//! ```text
//! runs/<id>/request.pb   Intent, there from the first moment (the directory appears by one rename)
//! runs/<id>/lock         flocked by the supervisor for its life; exists once it has started
//! runs/<id>/events       see `spool`
//! runs/<id>/stdin        what a command is to read; the supervisor removes it when it opens it
//! runs/<id>/cancel       exists once somebody asked for the end, and says who
//! runs/<id>/result.pb    pb::Run with its summary, there once the run has ended
//! runs/<id>/result.new   room kept for the result, so that a run that fills the disk still has one
//! runs/<id>/puppet/      what is given to Puppet and what it leaves: facts.d, log.jsonl, report.json …
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

/// What the name of a directory begins with that is not a run yet.
const NEW: &str = ".new-";
/// The same of one that is a run no more.
const GONE: &str = ".gone-";

/// Room for what a result holds beyond the request, in bytes.
const SUMMARY_ROOM: usize = 8 << 10;

/// The directory of one run.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// Makes the directory of a new run by one rename; from then on the run is queued.
    ///
    /// # Errors
    /// When the run exists or the disk refuses.
    pub fn create(paths: &Paths, id: &str, intent: &Intent) -> Result<Self, Error> {
        Self::create_with_input(paths, id, intent, &[])
    }

    /// The same, with what the run's command will read on its standard input.
    ///
    /// # Errors
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

    /// The directory of a run, if there is such a run.
    pub fn open(paths: &Paths, id: &str) -> Option<Self> {
        let path = paths.run(id);
        (super::is_run_id(id) && path.join("request.pb").exists()).then_some(Self { path })
    }

    /// All runs, in no order.
    ///
    /// # Errors
    /// When the directory of runs cannot be read; that it is not there yet is none.
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

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The spool.
    pub fn events(&self) -> PathBuf {
        self.path.join("events")
    }

    /// What belongs to Puppet.
    pub fn puppet(&self) -> PathBuf {
        self.path.join("puppet")
    }

    /// What was asked.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn intent(&self) -> Result<Intent, Error> {
        let path = self.path.join("request.pb");
        read_message(&path, "request")?.ok_or(Error::Corrupt { path, what: "request" })
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn result(&self) -> Result<Option<pb::Run>, Error> {
        read_message(&self.path.join("result.pb"), "result")
    }

    /// Ends the run.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_result(&self, result: &pb::Run) -> Result<(), Error> {
        let path = self.path.join("result.pb");
        durable::write(&path, &result.encode_to_vec()).map_err(Error::file("cannot write", &path))
    }

    /// Takes up the run: from now on its lock is held, until the file is dropped.
    ///
    /// The lock appears by a hard link, already held: whoever sees it free knows that its holder is gone. And a link
    /// is made once, so of two supervisors one takes up the run.
    ///
    /// # Errors
    /// When somebody has taken up the run before, or the disk refuses.
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

    /// What the lock says about the supervisor.
    ///
    /// # Errors
    /// When the lock cannot be tried.
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

    /// Opens what the command is to read, if anything was sent, and removes its name: it is nobody else's to read.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn take_stdin(&self) -> Result<Option<File>, Error> {
        let path = self.path.join("stdin");
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened
                .and_then(|file| fs::remove_file(&path).map(|()| Some(file)))
                .map_err(Error::file("cannot open", &path)),
        }
    }

    /// Asks the supervisor to end the run, in the name of this user; safe to repeat, and then the first is named.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn request_cancel(&self, user: &str) -> Result<(), Error> {
        let path = self.path.join("cancel");
        // It appears with the name inside: the supervisor reads it at once.
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
            file.write_all(user.as_bytes())?;
            file.persist_noclobber(&path).map(drop).map_err(|refused| refused.error)
        };
        match write() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // A run that has filled the disk can be ended: an empty file takes no block.
            Err(_) => File::create(&path).map(drop).map_err(Error::file("cannot make", &path)),
            Ok(()) => Ok(()),
        }
    }

    /// Has somebody asked for the end?
    pub fn cancel_requested(&self) -> bool {
        self.path.join("cancel").exists()
    }

    /// Who did, if that is known: a request of an older agent's names nobody.
    pub fn cancelled_by(&self) -> Option<String> {
        fs::read_to_string(self.path.join("cancel")).ok().filter(|user| !user.is_empty())
    }

    /// Where the run stands.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn standing(&self, boot_id: &str, now_unix_ms: i64) -> Result<Standing, Error> {
        // The lock is looked at before the result: a supervisor that ends in between has written one.
        let supervisor = self.supervisor()?;
        Ok(standing::derive(&self.intent()?, self.result()?, supervisor, boot_id, now_unix_ms))
    }

    /// The run as callers see it, but for what only its spool says: one that is under way is `preparing` here, and
    /// at no resource. [`RunDirectory::look_closer`] adds that.
    ///
    /// # Errors
    /// When its files cannot be read.
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

    /// Adds to an outline of a run under way how far it has come. Reads the whole spool.
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub fn look_closer(&self, outline: pb::Run) -> Result<pb::Run, Error> {
        if outline.state() != pb::RunState::Preparing {
            return Ok(outline);
        }
        let events = self.events();
        let latest = spool::latest(&events).map_err(Error::file("cannot read", &events))?;
        let state = latest.state.unwrap_or(pb::RunState::Preparing);
        Ok(pb::Run { state: state.into(), resource: latest.resource, ..outline })
    }

    /// What all its files take of the disk, in bytes.
    pub fn size(&self) -> u64 {
        size(&self.path)
    }

    /// Removes the run. Its directory loses its name first: nobody finds half a run, not even after a crash.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove(self) -> Result<(), Error> {
        let mut name = OsString::from(GONE);
        name.push(self.path.file_name().unwrap_or_default());
        let gone = self.path.with_file_name(name);
        fs::rename(&self.path, &gone).map_err(Error::file("cannot remove", &self.path))?;
        fs::remove_dir_all(&gone).map_err(Error::file("cannot remove", &gone))
    }

    /// Removes what runs that were being made or removed have left behind when the host died. Not while another
    /// process makes or removes runs.
    ///
    /// # Errors
    /// When the disk refuses.
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

/// What all files below a directory take of the disk, in bytes; symbolic links are not followed.
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
    fn the_first_who_cancels_is_named_and_input_is_taken_once() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        let directory = RunDirectory::create_with_input(&paths, "r-1", &intent("r-1"), b"in").unwrap();
        assert!(!directory.cancel_requested() && directory.cancelled_by().is_none());
        directory.request_cancel("bob").unwrap();
        directory.request_cancel("carol").unwrap();
        assert!(directory.cancel_requested());
        assert_eq!(directory.cancelled_by().as_deref(), Some("bob"));
        // As an older agent left it.
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

    /// A child that another test starts has all descriptors until it executes its program, and with them the lock.
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
