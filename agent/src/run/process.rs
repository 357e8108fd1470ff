//! Children of a supervisor: how they are started, heard and ended, all as one stream of [`Signal`]s.
//!
//! The supervisor is a child subreaper (prctl(2)): a process that Puppet started in a session of its own, or that
//! lost its parent, is still below the supervisor, so the whole tree can be found and ended without asking a cgroup.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
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

/// Something that the supervisor has to look at.
#[derive(Debug)]
pub enum Signal {
    /// Bytes on stdout (1) or stderr (2) of the child.
    Output {
        /// 1 or 2.
        fd: u32,
        /// As read.
        data: Vec<u8>,
    },
    /// One of a child's two streams has ended.
    Closed {
        /// Whose.
        pid: Pid,
    },
    /// A watched directory has changed.
    Woken,
    /// A child, or an orphan that became one, has ended.
    Exited {
        /// Its process id.
        pid: Pid,
        /// Its exit status, or 128 + signal.
        code: i32,
    },
    /// There is no child left.
    Childless,
}

/// Starts children and hears of all that happens to them.
#[derive(Debug)]
pub struct Nursery {
    signals: Receiver<Signal>,
    sender: Sender<Signal>,
    born: Sender<()>,
}

impl Nursery {
    /// Makes this process the one that hears of every end below it. Once a process.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new() -> Result<Self, Error> {
        nix::sys::prctl::set_child_subreaper(true)
            .map_err(|errno| Error::system("cannot become a subreaper")(errno.into()))?;
        let (sender, signals) = channel();
        let (born, births) = channel();
        let to = sender.clone();
        thread::spawn(move || reap(&births, &to));
        Ok(Self { signals, sender, born })
    }

    /// What happens, in order.
    pub fn signals(&self) -> &Receiver<Signal> {
        &self.signals
    }

    /// Wakes the supervisor whenever something in these directories changes.
    ///
    /// # Errors
    /// When a directory cannot be watched.
    pub fn watch(&self, directories: &[(&Path, WatchMask)]) -> Result<(), Error> {
        let mut inotify = Inotify::init().map_err(Error::system("cannot watch"))?;
        for (directory, mask) in directories {
            inotify.watches().add(directory, *mask).map_err(Error::file("cannot watch", directory))?;
        }
        let to = self.sender.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while inotify.read_events_blocking(&mut buffer).is_ok() && to.send(Signal::Woken).is_ok() {}
        });
        Ok(())
    }

    /// Starts a child; its output and its end come as signals.
    ///
    /// # Errors
    /// When it cannot be started, as the system says it.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Pid> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let pid = Pid::from_raw(child.id() as i32);
        if let Some(stdout) = child.stdout.take() {
            self.listen(pid, 1, stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            self.listen(pid, 2, stderr);
        }
        // The reaper waits for it: it ends only when this nursery is gone.
        let _ = self.born.send(());
        Ok(pid)
    }

    fn listen(&self, pid: Pid, fd: u32, mut stream: impl Read + Send + 'static) {
        let to = self.sender.clone();
        thread::spawn(move || {
            let mut buffer = vec![0; 16 << 10];
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
        });
    }
}

/// Waits for children until there are none, each time one is born.
fn reap(births: &Receiver<()>, to: &Sender<Signal>) {
    while births.recv().is_ok() {
        loop {
            let signal = match waitpid(None, None) {
                Ok(WaitStatus::Exited(pid, code)) => Signal::Exited { pid, code },
                Ok(WaitStatus::Signaled(pid, signal, _)) => Signal::Exited { pid, code: 128 + signal as i32 },
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

/// Sends a signal, or none, to every process below this one; returns how many there were.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn signal_descendants(signal: Option<UnixSignal>) -> Result<usize, Error> {
    let all = procfs::process::all_processes()
        .map_err(|error| Error::system("cannot list processes")(io::Error::other(error)))?;
    let stats = all.filter_map(|process| process.ok()?.stat().ok()).filter(|stat| stat.state != 'Z');
    let parents: BTreeMap<i32, i32> = stats.map(|stat| (stat.pid, stat.ppid)).collect();
    let descendants = below(&parents, std::process::id() as i32);
    for &pid in &descendants {
        // It may have ended since; its id cannot have been given to another, for only the reaper frees it.
        let _ = kill(Pid::from_raw(pid), signal);
    }
    Ok(descendants.len())
}

/// All processes below `root`, given each process's parent.
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

/// How many processes of this process's cgroup the kernel has killed for want of memory (cgroup v2, `memory.events`).
///
/// `None` where there is no such cgroup.
pub fn oom_kills() -> Option<u64> {
    let membership = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = membership.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let events = std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(own).join("memory.events")).ok()?;
    events.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
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
