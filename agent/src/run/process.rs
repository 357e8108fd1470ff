//! Child processes of a supervisor: start, output and exit, as one stream of [`Signal`]s.
//!
//! The supervisor is a child subreaper (prctl(2)): a process that Puppet started in a session of its own, or whose
//! parent died, is still a descendant of the supervisor. So the whole tree can be found and killed without a cgroup.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread,
    time::{Duration, Instant},
};

use inotify::{Inotify, WatchMask};
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal as UnixSignal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::Error;

/// Maximum number of signals that wait for the supervisor, each of at most [`CHUNK`] bytes; further output waits in the
/// child's pipe, and so does the child.
const AHEAD: usize = 64;
/// Maximum number of bytes read from a child's output at once.
const CHUNK: usize = 16 << 10;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Exited with this status: 0 to 255, which may also be above 128.
    Exited(i32),
    /// Killed by this signal.
    Killed(UnixSignal),
}

impl End {
    /// The exit status as a shell shows it: 128 + signal for a killed process.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => 128 + signal as i32,
        }
    }
}

/// For example "exited with 3" or "was killed by signal 9 (SIGKILL)".
impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(formatter, "exited with {code}"),
            Self::Killed(signal) => write!(formatter, "was killed by signal {} ({signal})", *signal as i32),
        }
    }
}

/// An event that the supervisor must handle.
#[derive(Debug)]
pub enum Signal {
    /// Output of the child.
    Output {
        /// 1 for stdout, 2 for stderr.
        fd: u32,
        /// The bytes read.
        data: Vec<u8>,
    },
    /// One of a child's two streams has been closed.
    Closed {
        /// Process id of the child.
        pid: Pid,
    },
    /// A watched directory has changed.
    Woken,
    /// A child, or an orphan that the supervisor adopted, has ended.
    Exited {
        /// Process id of the child.
        pid: Pid,
        /// How the process ended.
        end: End,
    },
    /// No children are left.
    Childless,
}

/// Starts children and receives their signals.
#[derive(Debug)]
pub struct Nursery {
    signals: Receiver<Signal>,
    sender: SyncSender<Signal>,
    born: Sender<()>,
}

impl Nursery {
    /// Makes this process the subreaper of all its descendants. Call it only once in a process.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new() -> Result<Self, Error> {
        nix::sys::prctl::set_child_subreaper(true)
            .map_err(|errno| Error::system("cannot become a subreaper")(errno.into()))?;
        let (sender, signals) = sync_channel(AHEAD);
        let (born, births) = channel();
        let to = sender.clone();
        start_thread(move || reap(&births, &to)).map_err(Error::system("cannot wait for processes"))?;
        Ok(Self { signals, sender, born })
    }

    /// The next signal, if it comes before `until`. Returns `None` after that, even if more signals are waiting: a
    /// child that never stops writing must not delay its own end.
    pub fn next_until(&self, until: Instant) -> Option<Signal> {
        let left = until.checked_duration_since(Instant::now())?;
        self.signals.recv_timeout(left).ok()
    }

    /// The next signal; waits without a limit.
    pub fn next(&self) -> Signal {
        self.signals.recv().expect("the nursery itself keeps a sender")
    }

    /// Wakes the supervisor whenever something in these directories changes.
    ///
    /// # Errors
    /// If a directory cannot be watched.
    pub fn watch(&self, directories: &[(&Path, WatchMask)]) -> Result<(), Error> {
        let mut inotify = Inotify::init().map_err(Error::system("cannot watch"))?;
        for (directory, mask) in directories {
            inotify.watches().add(directory, *mask).map_err(Error::file("cannot watch", directory))?;
        }
        let to = self.sender.clone();
        let watch = move || {
            let mut buffer = [0; 4096];
            while inotify.read_events_blocking(&mut buffer).is_ok() && to.send(Signal::Woken).is_ok() {}
        };
        start_thread(watch).map_err(Error::system("cannot watch"))
    }

    /// Wakes the supervisor every `pause`, for directories that cannot be watched.
    ///
    /// # Errors
    /// If no more threads can be started.
    pub fn poll(&self, pause: Duration) -> Result<(), Error> {
        let to = self.sender.clone();
        let wake = move || {
            while to.send(Signal::Woken).is_ok() {
                thread::sleep(pause);
            }
        };
        start_thread(wake).map_err(Error::system("cannot start a thread"))
    }

    /// Starts a child with `input` as its standard input; its output and end are sent as signals.
    ///
    /// # Errors
    /// If the child cannot be started; returns the system's error.
    pub fn spawn(&self, command: &mut Command, input: Stdio) -> io::Result<Pid> {
        let mut child = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let pid = Pid::from_raw(child.id() as i32);
        // The reaper receives it, because it ends only after this nursery is dropped.
        let _ = self.born.send(());
        let stdout = child.stdout.take().map_or(Ok(()), |stdout| self.listen(pid, 1, stdout));
        let stderr = child.stderr.take().map_or(Ok(()), |stderr| self.listen(pid, 2, stderr));
        if let Err(error) = stdout.and(stderr) {
            child.kill()?;
            return Err(error);
        }
        Ok(pid)
    }

    fn listen(&self, pid: Pid, fd: u32, mut stream: impl Read + Send + 'static) -> io::Result<()> {
        let to = self.sender.clone();
        start_thread(move || {
            let mut buffer = vec![0; CHUNK];
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => {
                        if to.send(Signal::Output { fd, data: buffer[..count].to_vec() }).is_err() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            let _ = to.send(Signal::Closed { pid });
        })
    }
}

/// Starts a thread; exceeding a limit on threads is an ordinary error.
fn start_thread(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().spawn(work).map(drop)
}

/// After each start of a child, waits for children until none are left.
fn reap(births: &Receiver<()>, to: &SyncSender<Signal>) {
    while births.recv().is_ok() {
        loop {
            let signal = match waitpid(None, None) {
                Ok(WaitStatus::Exited(pid, code)) => Signal::Exited { pid, end: End::Exited(code) },
                Ok(WaitStatus::Signaled(pid, signal, _)) => Signal::Exited { pid, end: End::Killed(signal) },
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(_) => break,
            };
            if to.send(signal).is_err() {
                return;
            }
        }
        if to.send(Signal::Childless).is_err() {
            return;
        }
    }
}

/// A descendant of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descendant {
    /// Process id.
    pub pid: i32,
    /// Process id of the parent.
    pub parent: i32,
    /// The kernel's name for the process (`comm` of proc_pid_stat(5)).
    pub name: String,
}

/// For example `nginx (1234)`.
impl fmt::Display for Descendant {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{} ({})", self.name, self.pid)
    }
}

/// All living descendants of this process, ordered by process id.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn descendants() -> Result<Vec<Descendant>, Error> {
    let all = procfs::process::all_processes()
        .map_err(|error| Error::system("cannot list processes")(io::Error::other(error)))?;
    let stats = all.filter_map(|process| process.ok()?.stat().ok()).filter(|stat| stat.state != 'Z');
    let processes: BTreeMap<i32, Descendant> = stats
        .map(|stat| (stat.pid, Descendant { pid: stat.pid, parent: stat.ppid, name: stat.comm }))
        .collect();
    let parents = processes.iter().map(|(&pid, process)| (pid, process.parent)).collect();
    let below = below(&parents, std::process::id() as i32);
    Ok(below.into_iter().filter_map(|pid| processes.get(&pid).cloned()).collect())
}

/// Sends a signal, or none, to every descendant; returns their number.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn signal_descendants(signal: Option<UnixSignal>) -> Result<usize, Error> {
    let descendants = descendants()?;
    for process in &descendants {
        // It may have exited meanwhile; its id cannot be reused, because only the reaper frees it.
        let _ = kill(Pid::from_raw(process.pid), signal);
    }
    Ok(descendants.len())
}

/// All descendants of `root`, computed from each process's parent.
fn below(parents: &BTreeMap<i32, i32>, root: i32) -> Vec<i32> {
    let is_below = |pid: i32| {
        let mut at = pid;
        for _ in 0..=parents.len() {
            match parents.get(&at) {
                Some(&parent) if parent == root => return true,
                Some(&parent) => at = parent,
                None => return false,
            }
        }
        false
    };
    parents.keys().copied().filter(|&pid| is_below(pid)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_below_a_process_is_found_and_nothing_else() {
        let parents =
            BTreeMap::from([(1, 0), (10, 1), (20, 10), (21, 20), (30, 10), (40, 1), (50, 51), (51, 50)]);
        assert_eq!(below(&parents, 10), [20, 21, 30]);
        assert_eq!(below(&parents, 21), [0; 0]);
    }
}
