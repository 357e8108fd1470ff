//! `agent run <id>`: executes one queued run, owns its processes, and stores its result.
//!
//! A run is cancelled only by the file `cancel` in its directory: this works in every environment, and the supervisor
//! survives to write the result. TERM and KILL end the supervisor itself, and the run counts as interrupted.
//!
//! The order at the end matters: the spool is synced, the result written, the apply lock released, and only then the
//! summary event is sent. So whoever has seen the summary can read the result and start the next apply.

use std::{
    env,
    ffi::OsString,
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use inotify::WatchMask;
use nix::{
    sys::{
        signal::Signal as UnixSignal,
        stat::{Mode, umask},
    },
    unistd::Pid,
};
use proto::{
    pb::{self, event::What},
    units::size,
};

use super::{
    Error, RunDirectory, boot_id, install, left,
    log::{Interpreter, Tail},
    memory::{self, Evidence},
    process::{End, Nursery, Signal, signal_descendants},
    puppet::{self, Layout, OwnAgent},
    report::{self, Report},
    spool::{self, Writer},
    standing::Standing,
    unix_ms,
};
use crate::{bundles, limits::Memory, paths::Paths};

/// Time between TERM and KILL.
const GRACE: Duration = Duration::from_secs(10);
/// Timeout after KILL; exceeded only by a process that the kernel cannot end, such as one that waits for a dead disk.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait for output of an ended child: only its surviving children can keep the pipe open.
const DRAIN: Duration = Duration::from_millis(250);
/// How long remaining processes of a run may take to exit before they count as left running.
const LINGER: Duration = Duration::from_millis(200);
/// Interval for checking the run's directory if it cannot be watched.
const POLL: Duration = Duration::from_millis(100);
/// Interval for retrying a lock that is held.
const RETRY: Duration = Duration::from_millis(200);
/// How long to wait for another Puppet agent on the host.
const OWN_AGENT_LIMIT: Duration = Duration::from_secs(300);

/// Maximum length of a failure message, in bytes: the result must fit into its reserved space.
const FAILURE_LIMIT: usize = 4 << 10;

/// How one child ended.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// The child ended.
    Ended(End),
    /// The child could not be started; contains the reason.
    Unstartable(String),
    /// A user cancelled the run.
    Cancelled,
}

/// State and summary of an ended run.
type Outcome = (pb::RunState, pb::Summary);

/// Executes a queued run and returns after its end, whatever the outcome.
///
/// Makes this process a subreaper and session leader: call it only once in a process.
///
/// # Errors
/// If the run is missing or not queued, or its own files fail. A failure of Puppet is a result, not an error.
pub fn supervise(paths: &Paths, id: &str) -> Result<(), Error> {
    // Fails if this process is a session leader already, which is fine.
    let _ = nix::unistd::setsid();
    let not_queued = |why| Error::NotQueued { id: id.to_owned(), why };
    let directory = RunDirectory::open(paths, id).ok_or_else(|| not_queued("there is no such run"))?;
    match directory.standing(&boot_id()?, unix_ms(SystemTime::now()))? {
        Standing::Queued => {}
        Standing::Active => return Err(not_queued("it is already running")),
        Standing::Ended(_) => return Err(not_queued("it has already ended")),
        Standing::Interrupted(why) => return Err(not_queued(why)),
    }
    // Puppet and commands expect the usual umask, whatever the agent's is; the run's directory is private anyway.
    umask(Mode::from_bits_truncate(0o022));
    let run = directory.intent()?.run.unwrap_or_default();
    let _held = directory.hold()?;
    // Whatever fails from here on, the run gets a result.
    let mut supervisor = match Supervisor::new(paths, directory.clone(), &run) {
        Ok(supervisor) => supervisor,
        Err(error) => return directory.write_result(&ended(run, failed(0, error.to_string()))),
    };
    let outcome = supervisor.carry_out(&run).and_then(|outcome| supervisor.let_go(&run.run_id, outcome));
    let outcome = outcome.unwrap_or_else(|error| {
        let left = supervisor.end_all().err().map(|error| format!("; {error}")).unwrap_or_default();
        failed(0, format!("{error}{left}"))
    });
    supervisor.finish(run, outcome)
}

struct Supervisor<'a> {
    paths: &'a Paths,
    directory: RunDirectory,
    spool: Writer,
    nursery: Nursery,
    began: Instant,
    oom_kills_before: Option<u64>,
    follow: Option<Follow>,
    apply_lock: Option<File>,
}

/// Puppet's log while Puppet runs.
struct Follow {
    path: PathBuf,
    tail: Tail,
    interpreter: Interpreter,
}

impl<'a> Supervisor<'a> {
    fn new(paths: &'a Paths, directory: RunDirectory, run: &pb::Run) -> Result<Self, Error> {
        let (events, own) = (directory.events(), directory.puppet());
        let limit = match run.request.as_ref().map_or(0, |request| request.output_limit_bytes) {
            0 => spool::DEFAULT_LIMIT,
            limit => limit,
        };
        let spool = Writer::create(&events, limit).map_err(Error::file("cannot make", &events))?;
        fs::create_dir_all(&own).map_err(Error::file("cannot make", &own))?;
        let nursery = Nursery::new()?;
        let (began, oom_kills_before) = (Instant::now(), memory::oom_kills(Path::new("/")));
        let mut supervisor = Self {
            paths,
            directory,
            spool,
            nursery,
            began,
            oom_kills_before,
            follow: None,
            apply_lock: None,
        };
        supervisor.watch(&own)?;
        Ok(supervisor)
    }

    /// Receives `cancel` and changes of Puppet's log; polls if no inotify instance is left (inotify(7),
    /// `max_user_instances`).
    fn watch(&mut self, own: &Path) -> Result<(), Error> {
        let appearing = WatchMask::CREATE | WatchMask::MOVED_TO;
        let directories = [(self.directory.path(), appearing), (own, WatchMask::CREATE | WatchMask::MODIFY)];
        let Err(error) = self.nursery.watch(&directories) else { return Ok(()) };
        self.nursery.poll(POLL)?;
        self.warn(format!("{error}; polling every {} ms instead", POLL.as_millis()))
    }

    fn carry_out(&mut self, run: &pb::Run) -> Result<Outcome, Error> {
        self.state(pb::RunState::Preparing)?;
        match proto::run::what(run) {
            Some(pb::start_request::What::Apply(apply)) => {
                if self.take_apply_lock(&run.run_id)? {
                    self.apply(apply)
                } else {
                    Ok(self.cancelled())
                }
            }
            Some(pb::start_request::What::Command(command)) => self.command(&command.argv),
            None => Ok(failed(0, "the request has neither an apply nor a command")),
        }
    }

    /// One apply at a time, even if a supervisor is started by hand. False if the run was cancelled meanwhile.
    fn take_apply_lock(&mut self, id: &str) -> Result<bool, Error> {
        let path = self.paths.apply_lock();
        let open = || File::options().create(true).truncate(false).write(true).open(&path);
        let mut file = open().map_err(Error::file("cannot open", &path))?;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if !self.directory.cancel_requested() => self.pause(RETRY),
                Err(TryLockError::WouldBlock) => return Ok(false),
                Err(TryLockError::Error(error)) => return Err(Error::file("cannot lock", &path)(error)),
            }
        }
        file.set_len(0)
            .and_then(|()| file.write_all(id.as_bytes()))
            .map_err(Error::file("cannot write", &path))?;
        self.apply_lock = Some(file);
        Ok(true)
    }

    fn apply(&mut self, apply: &pb::Apply) -> Result<Outcome, Error> {
        let layout = Layout {
            tree: self.paths.bundle_tree(&apply.bundle),
            lasting: self.paths.puppet(),
            own: self.directory.puppet(),
        };
        if !layout.tree.is_dir() {
            return Ok(failed(0, format!("bundle {} is not on this host", apply.bundle)));
        }
        if let Some(outcome) = self.wait_for_own_agent()? {
            return Ok(outcome);
        }
        if let Some(damage) = self.damage(&apply.bundle) {
            return Ok(failed(0, damage));
        }
        let puppet = match self.find_puppet()? {
            Ok(puppet) => puppet,
            Err(outcome) => return Ok(outcome),
        };
        let memory = Memory::read(self.paths, Path::new("/")).ok().map(|memory| memory.total);
        puppet::prepare(&layout, apply, memory)?;
        self.state(pb::RunState::Running)?;
        let interpreter = Interpreter::new(layout.origin(apply), apply.noop);
        self.follow = Some(Follow { path: layout.log(), tail: Tail::default(), interpreter });
        let ending = self.child(&mut puppet::command(&puppet, &layout, apply), Stdio::null())?;
        self.read_log()?;
        let interpreter = self.follow.take().map(|follow| follow.interpreter);
        self.judge(ending, &layout, apply, interpreter)
    }

    /// Why the bundle cannot be applied, if it differs from what was uploaded: its tree may have been changed on the
    /// host.
    fn damage(&self, bundle: &str) -> Option<String> {
        match bundle.parse() {
            Ok(digest) => bundles::verify(self.paths, &digest).err().map(|error| error.to_string()),
            Err(error) => Some(format!("{bundle} is not the name of a bundle: {error}")),
        }
    }

    /// Waits up to a limit for the host's own Puppet agent. `Some` if the run ends here.
    fn wait_for_own_agent(&mut self) -> Result<Option<Outcome>, Error> {
        let since = Instant::now();
        let mut told = false;
        loop {
            let sentence = match puppet::own_agent(Path::new("/")) {
                None => return Ok(None),
                Some(OwnAgent::Disabled { message }) => {
                    self.warn(format!(
                        "the host's own Puppet agent is disabled ({message}); applying anyway"
                    ))?;
                    return Ok(None);
                }
                Some(OwnAgent::Running { pid }) => {
                    format!("the host's own Puppet agent (process {pid}) is applying a catalog")
                }
            };
            if self.directory.cancel_requested() {
                return Ok(Some(self.cancelled()));
            }
            if since.elapsed() > OWN_AGENT_LIMIT {
                return Ok(Some(failed(0, sentence)));
            }
            if !told {
                self.warn(format!("{sentence}; waiting for it to finish"))?;
                told = true;
            }
            self.pause(RETRY);
        }
    }

    /// Puppet's path; installs Puppet if it is missing.
    fn find_puppet(&mut self) -> Result<Result<PathBuf, Outcome>, Error> {
        let find = || puppet::find(env::var_os("MAGPIE_PUPPET"));
        if let Some(puppet) = find() {
            return Ok(Ok(puppet));
        }
        for step in install::plan(Path::exists) {
            self.warn(format!("Puppet is not installed; running {}", step.argv.join(" ")))?;
            let mut command = program(&step.argv);
            command.env("DEBIAN_FRONTEND", "noninteractive");
            if self.child(&mut command, Stdio::null())? == Ending::Cancelled {
                return Ok(Err(self.cancelled()));
            }
            if let Some(puppet) = find() {
                return Ok(Ok(puppet));
            }
        }
        Ok(Err(failed(0, "Puppet is not installed, and this host's package manager could not install it")))
    }

    fn judge(
        &mut self,
        ending: Ending,
        layout: &Layout,
        apply: &pb::Apply,
        interpreter: Option<Interpreter>,
    ) -> Result<Outcome, Error> {
        let end = match ending {
            Ending::Ended(end) => end,
            Ending::Unstartable(why) => return Ok(failed(127, why)),
            Ending::Cancelled => End::Killed(UnixSignal::SIGTERM),
        };
        let killed = end == End::Killed(UnixSignal::SIGKILL);
        let evidence = self.evidence();
        let report = read_report(layout, apply, interpreter.as_ref());
        let mut summary = report.as_ref().map_or_else(pb::Summary::default, |report| report.summary.clone());
        for resource in report.into_iter().flat_map(|report| report.resources) {
            if !interpreter.as_ref().is_some_and(|interpreter| interpreter.has_told(&resource)) {
                self.tell(What::Resource(resource))?;
            }
        }
        summary.exit_code = end.code();
        if ending == Ending::Cancelled {
            summary.failure = self.cancelled_sentence();
            return Ok((pb::RunState::Cancelled, summary));
        }
        let state = puppet::state(end.code());
        let lack = evidence.sentence("Puppet", killed);
        if state != pb::RunState::Failed {
            if let Some(lack) = lack {
                self.warn(lack)?;
            }
            return Ok((state, summary));
        }
        if summary.failure.is_empty() {
            let (at, error) = interpreter
                .as_ref()
                .map_or((None, None), |interpreter| (interpreter.current(), interpreter.last_error()));
            summary.failure = puppet::failure(end, at, error);
        }
        summary.failure = with(summary.failure, lack);
        Ok((state, summary))
    }

    fn evidence(&self) -> Evidence {
        let limit = Memory::read(self.paths, Path::new("/")).ok().map(|memory| memory.total);
        Evidence::gather(self.oom_kills_before, limit)
    }

    fn command(&mut self, argv: &[String]) -> Result<Outcome, Error> {
        if argv.is_empty() {
            return Ok(failed(127, "the command is empty"));
        }
        let stdin = self.directory.take_stdin()?.map_or_else(Stdio::null, Stdio::from);
        self.state(pb::RunState::Running)?;
        let end = match self.child(&mut program(argv), stdin)? {
            Ending::Cancelled => return Ok(self.cancelled()),
            Ending::Unstartable(why) => return Ok(failed(127, why)),
            Ending::Ended(end) => end,
        };
        if end == End::Exited(0) {
            return Ok((pb::RunState::Succeeded, pb::Summary::default()));
        }
        let lack = self.evidence().sentence(&argv[0], end == End::Killed(UnixSignal::SIGKILL));
        Ok(failed(end.code(), with(format!("{} {end}", argv[0]), lack)))
    }

    /// Fails a command whose output was cut: partial output must not be mistaken for the complete output. Must come
    /// after the last output.
    fn cut(&self, run: &pb::Run, (mut state, mut summary): Outcome) -> Outcome {
        if self.spool.dropped() == 0 || proto::run::apply(run).is_some() {
            return (state, summary);
        }
        let (limit, dropped) = (self.spool.limit(), size(self.spool.dropped()));
        let cut = format!("the output was cut at its limit of {limit}: {dropped} were dropped");
        if state == pb::RunState::Succeeded {
            state = pb::RunState::Failed;
        }
        summary.failure = if summary.failure.is_empty() { cut } else { with(summary.failure, Some(cut)) };
        (state, summary)
    }

    /// Runs one child to its end and reports its output.
    fn child(&mut self, command: &mut Command, stdin: Stdio) -> Result<Ending, Error> {
        if self.directory.cancel_requested() {
            return Ok(Ending::Cancelled);
        }
        clean(command);
        let child = match self.nursery.spawn(command, stdin) {
            Ok(child) => child,
            Err(error) => {
                let program = command.get_program().display();
                return Ok(Ending::Unstartable(match error.kind() {
                    io::ErrorKind::NotFound => format!("cannot start {program}: no such program"),
                    _ => format!("cannot start {program}: {error}"),
                }));
            }
        };
        let mut open_streams = 2;
        loop {
            match self.nursery.next() {
                Signal::Closed { pid } if pid == child => open_streams -= 1,
                Signal::Exited { pid, end } if pid == child => {
                    self.drain(open_streams, child)?;
                    return Ok(Ending::Ended(end));
                }
                other => self.say(other)?,
            }
            if self.directory.cancel_requested() {
                self.end_all()?;
                return Ok(Ending::Cancelled);
            }
        }
    }

    /// Reports the content of a signal.
    fn say(&mut self, signal: Signal) -> Result<(), Error> {
        match signal {
            Signal::Output { fd, data } => self.tell(What::Output(pb::Output { fd, data })),
            Signal::Woken => self.read_log(),
            Signal::Exited { .. } | Signal::Closed { .. } | Signal::Childless => Ok(()),
        }
    }

    /// Reports remaining output of the child before its end.
    fn drain(&mut self, mut open_streams: u8, child: Pid) -> Result<(), Error> {
        let until = Instant::now() + DRAIN;
        while open_streams > 0 && !self.directory.cancel_requested() {
            match self.nursery.next_until(until) {
                Some(Signal::Closed { pid }) if pid == child => open_streams -= 1,
                Some(signal) => self.say(signal)?,
                None => break,
            }
        }
        Ok(())
    }

    /// Sends TERM, waits, then sends KILL to all descendants.
    fn end_all(&mut self) -> Result<(), Error> {
        if signal_descendants(Some(UnixSignal::SIGTERM))? == 0 || self.await_childless(GRACE)? {
            return Ok(());
        }
        self.warn(format!("still running {} s after TERM; sending KILL", GRACE.as_secs()))?;
        let until = Instant::now() + KILL_LIMIT;
        // Repeat, because a process may start another one just before it is killed.
        while signal_descendants(Some(UnixSignal::SIGKILL))? > 0 && Instant::now() < until {
            self.await_childless(RETRY)?;
        }
        Ok(())
    }

    fn await_childless(&mut self, limit: Duration) -> Result<bool, Error> {
        let until = Instant::now() + limit;
        while let Some(signal) = self.nursery.next_until(until) {
            match signal {
                // The signal may be about an earlier child, so check.
                Signal::Childless if signal_descendants(None)? == 0 => return Ok(true),
                other => self.say(other)?,
            }
        }
        Ok(false)
    }

    fn read_log(&mut self) -> Result<(), Error> {
        let Some(mut follow) = self.follow.take() else { return Ok(()) };
        let lines = follow.tail.lines(&follow.path).map_err(Error::file("cannot read", &follow.path))?;
        for line in lines {
            if let Some(what) = follow.interpreter.line(&line) {
                self.tell(what)?;
            }
        }
        self.follow = Some(follow);
        Ok(())
    }

    /// Lets remaining processes continue after the run, and adds them to the summary. A cancelled run leaves none.
    fn let_go(&mut self, id: &str, (state, mut summary): Outcome) -> Result<Outcome, Error> {
        if state != pb::RunState::Cancelled
            && signal_descendants(None)? > 0
            && !self.await_childless(LINGER)?
        {
            // The run was cancelled after its last own process had ended.
            if self.directory.cancel_requested() {
                self.end_all()?;
                return Ok((state, summary));
            }
            match left::keep(id) {
                Ok(left) => (summary.left_running, summary.left) = (left.count, left.names),
                Err(sentence) => self.warn(sentence)?,
            }
        }
        Ok((state, summary))
    }

    fn finish(mut self, run: pb::Run, outcome: Outcome) -> Result<(), Error> {
        let (state, mut summary) = self.cut(&run, outcome);
        summary.duration_ms = self.began.elapsed().as_millis() as u64;
        summary.dropped_bytes = self.spool.dropped();
        let told = self.tell_end(&run, state);
        let run = ended(run, (state, summary));
        self.directory.write_result(&run)?;
        self.apply_lock = None;
        told?;
        self.tell(What::Summary(run.summary.unwrap_or_default()))
    }

    fn tell_end(&mut self, run: &pb::Run, state: pb::RunState) -> Result<(), Error> {
        // A command has failed because of it, and its failure says so.
        if self.spool.dropped() > 0 && proto::run::apply(run).is_some() {
            self.warn(format!("{} of output and log were dropped", size(self.spool.dropped())))?;
        }
        self.state(state)?;
        self.spool.sync().map_err(Error::file("cannot sync", &self.directory.events()))
    }

    fn cancelled(&self) -> Outcome {
        let exit_code = End::Killed(UnixSignal::SIGTERM).code();
        let summary = pb::Summary { exit_code, failure: self.cancelled_sentence(), ..pb::Summary::default() };
        (pb::RunState::Cancelled, summary)
    }

    fn cancelled_sentence(&self) -> String {
        let by = self.directory.cancelled_by().map(|user| format!(" by {user}"));
        format!("the run was cancelled{}", by.unwrap_or_default())
    }

    fn pause(&self, limit: Duration) {
        // No process runs: the only possible signal is a change in the run's directory, such as `cancel`.
        let _ = self.nursery.next_until(Instant::now() + limit);
    }

    fn state(&mut self, state: pb::RunState) -> Result<(), Error> {
        self.tell(What::State(state.into()))
    }

    fn warn(&mut self, message: String) -> Result<(), Error> {
        let told = self.spool.warn(unix_ms(SystemTime::now()), message);
        told.map_err(Error::file("cannot write", &self.directory.events()))
    }

    /// A full disk does not stop Puppet halfway: events without space are lost, and the result has reserved space.
    fn tell(&mut self, what: What) -> Result<(), Error> {
        let told = self.spool.append(unix_ms(SystemTime::now()), what);
        told.map_err(Error::file("cannot write", &self.directory.events()))
    }
}

/// Puppet's report, with the refreshes that only its log has; `None` if there is no report.
fn read_report(layout: &Layout, apply: &pb::Apply, interpreter: Option<&Interpreter>) -> Option<Report> {
    let bytes = fs::read(layout.report()).ok()?;
    let report = report::parse(&bytes, &layout.origin(apply), &apply.tags).ok()?;
    Some(report.with_refreshes(interpreter.map(Interpreter::refreshes).unwrap_or_default()))
}

fn program(argv: &[String]) -> Command {
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]);
    command
}

/// Gives a child a fixed environment, independent of the agent's.
fn clean(command: &mut Command) {
    let added: Vec<(OsString, OsString)> =
        command.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
    command.env_clear().envs([("PATH", puppet::PATH), ("HOME", "/root"), ("LANG", "C.UTF-8")]).envs(added);
    command.current_dir("/");
}

/// The run with its result.
fn ended(mut run: pb::Run, (state, mut summary): Outcome) -> pb::Run {
    summary.failure.truncate(summary.failure.floor_char_boundary(FAILURE_LIMIT));
    run.set_state(state);
    run.finished_unix_ms = unix_ms(SystemTime::now());
    run.summary = Some(summary);
    run
}

/// A sentence, followed by `more` if there is any.
fn with(sentence: String, more: Option<String>) -> String {
    more.map_or_else(|| sentence.clone(), |more| format!("{sentence}; {more}"))
}

fn failed(exit_code: i32, failure: impl Into<String>) -> Outcome {
    (pb::RunState::Failed, pb::Summary { exit_code, failure: failure.into(), ..pb::Summary::default() })
}
