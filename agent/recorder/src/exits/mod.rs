//! Process exits, reported by the kernel: taskstats over generic netlink (the kernel's taskstats.rst).
//!
//! Every task that ends sends one message to the listeners on its CPU; the last task of a process is marked. There is
//! one socket for each CPU, so that the gap after a buffer overflow shows how many messages were lost ([`sequence`]).
//! All CPUs that are offline now share another socket, whose losses are only known to be at least one.
//!
//! Needs CAP_NET_ADMIN and the initial user and pid namespaces, before Linux 5.19 also the initial network namespace.
//! Before 5.19, the kernel does not say whether a task was a thread, so each thread exit counts as a process exit.

mod buffer;
mod cpu;
mod names;
mod netlink;
mod sequence;
mod socket;
mod taskstats;
#[cfg(test)]
mod tests;
mod threads;
mod timing;

use std::{fs, io, path::Path};

use nix::errno::Errno;
use record::{Exit, Identity};

pub use buffer::{ExitBuffer, MAX_EXITS, MAX_GROUPS};
use cpu::Cpu;
use names::Names;
use sequence::Sequence;
use socket::Socket;
#[doc(hidden)]
pub use taskstats::count_notices;
use taskstats::{Notice, notices};
use threads::Threads;
pub use timing::Window;

/// Receive buffer of each socket, in bytes; the kernel doubles it for its own overhead. Holds the messages of one
/// second with 4,000 exits on one CPU.
const RECEIVE_BYTES: usize = 4 << 20;
/// Longer than any message: two structures of 560 bytes in Linux 6.18.
const MESSAGE_BYTES: usize = 8192;
/// Maximum number of exits of multi-threaded processes that wait for messages about their threads.
const MAX_PENDING: usize = 512;
/// Maximum number of rounds over all sockets: without a limit, a fork bomb would keep the recorder busy forever.
const MAX_ROUNDS: usize = 64;
/// Maximum number of messages from one socket in one round.
const MAX_MESSAGES: usize = 1024;

/// Why process exits are not recorded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel has no taskstats.
    #[error("process exits are not recorded: the kernel was built without taskstats")]
    Absent,
    /// The recorder is not in the initial namespaces.
    #[error(
        "process exits are not recorded: the kernel reports them only in the initial user and pid namespaces, not in a container"
    )]
    Namespace,
    /// The recorder lacks the capability.
    #[error("process exits are not recorded: {0}; the recorder needs CAP_NET_ADMIN")]
    Refused(Errno),
    /// Another error of the socket.
    #[error("process exits are not recorded: {0}")]
    Socket(#[from] Errno),
    /// The list of CPUs cannot be read.
    #[error("process exits are not recorded: cannot read the list of CPUs: {0}")]
    Cpus(io::Error),
}

/// Receives process exits.
#[derive(Debug)]
pub struct Exits {
    family: u16,
    taps: Vec<Tap>,
    joiner: Joiner,
    lost: u64,
    messages: u64,
    /// Time of the last drain, ns since boot.
    drained_ns: u64,
}

/// The messages of one CPU, or of several that cannot be distinguished.
#[derive(Debug)]
struct Tap {
    socket: Socket,
    sequence: Option<Sequence>,
}

impl Exits {
    /// Starts to listen; `system` is /sys, `now_ns` the time since boot.
    ///
    /// # Errors
    /// If exits cannot be received here; the message says why.
    pub fn open(system: &Path, now_ns: u64) -> Result<Self, Error> {
        let read = |name| fs::read_to_string(system.join("devices/system/cpu").join(name));
        let online = read("online").and_then(|text| cpus(&text)).map_err(Error::Cpus)?;
        let possible = read("possible").and_then(|text| cpus(&text)).unwrap_or_default();
        Self::listen(&online, &possible, RECEIVE_BYTES, now_ns)
    }

    fn listen(online: &[u32], possible: &[u32], bytes: usize, now_ns: u64) -> Result<Self, Error> {
        let family = Socket::open(bytes)?.family()?;
        let tap = |mask: &str, sequence| {
            let socket = Socket::open(bytes)?;
            socket.register(family, mask)?;
            Ok::<_, Error>(Tap { socket, sequence })
        };
        let mut taps = Vec::with_capacity(online.len() + 1);
        for cpu in online {
            taps.push(tap(&cpu.to_string(), Some(Sequence::default()))?);
        }
        let others: Vec<_> =
            possible.iter().filter(|cpu| !online.contains(cpu)).map(u32::to_string).collect();
        if !others.is_empty() {
            taps.push(tap(&others.join(","), None)?);
        }
        Ok(Self { family, taps, joiner: Joiner::new(), lost: 0, messages: 0, drained_ns: now_ns })
    }

    /// Appends the exits since the last call to `out`.
    ///
    /// `started_of` returns the start times of processes with this pid in recent samples, most likely first, so that
    /// exits and samples use the same identity. Never waits; allocates only for names that were not seen recently.
    pub fn drain<I: IntoIterator<Item = u64>>(
        &mut self,
        now_ns: u64,
        suspended_ns: u64,
        started_of: impl Fn(u32) -> I,
        out: &mut ExitBuffer,
    ) {
        let window = Window { since_ns: self.drained_ns, now_ns, suspended_ns };
        // Threads end before their process, possibly on another CPU: a round that begins after the message about the
        // process also finds those about its threads. So the last round is one that finds nothing.
        for _ in 0..MAX_ROUNDS {
            if !self.round(&window, &started_of, out) {
                break;
            }
        }
        self.joiner.flush(out);
        self.drained_ns = now_ns;
    }

    /// Number of messages known to be lost since [`Self::open`], including those about threads.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Number of messages read.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Reads all sockets once; returns whether there were any messages.
    fn round<I: IntoIterator<Item = u64>>(
        &mut self,
        window: &Window,
        started_of: &impl Fn(u32) -> I,
        out: &mut ExitBuffer,
    ) -> bool {
        let mut buffer = [0; MESSAGE_BYTES];
        let mut found = false;
        for tap in &mut self.taps {
            for _ in 0..MAX_MESSAGES {
                let datagram = match tap.socket.receive(&mut buffer) {
                    Ok(datagram) => datagram,
                    // The kernel dropped messages. The gap in the sequence numbers shows how many; a socket shared by
                    // several CPUs has no usable sequence, so count at least one.
                    Err(Errno::ENOBUFS) => {
                        match &mut tap.sequence {
                            Some(sequence) => sequence.note_full(),
                            None => self.lost += 1,
                        }
                        continue;
                    }
                    Err(Errno::EINTR) => continue,
                    Err(_) => break,
                };
                found = true;
                for notice in notices(datagram, self.family) {
                    self.messages += 1;
                    self.lost += tap.sequence.as_mut().map_or(0, |sequence| sequence.note(notice.sequence));
                    self.joiner.note(&notice, window, started_of, out);
                }
            }
        }
        found
    }
}

/// Joins exits of tasks to exits of processes.
#[derive(Debug)]
struct Joiner {
    threads: Threads,
    names: Names,
    /// Multi-threaded processes: CPU time of the last thread, and the kernel's sums.
    pending: Vec<(Exit, Cpu, Cpu)>,
}

impl Joiner {
    fn new() -> Self {
        Self { threads: Threads::new(), names: Names::default(), pending: Vec::with_capacity(MAX_PENDING) }
    }

    fn note<I: IntoIterator<Item = u64>>(
        &mut self,
        notice: &Notice,
        window: &Window,
        started_of: &impl Fn(u32) -> I,
        out: &mut ExitBuffer,
    ) {
        let task = &notice.task;
        let comm = self.names.intern(task.comm());
        if let (Some(false), Some(process)) = (task.last, task.tgid) {
            // A thread that ended before its process: keep its counters until the process exits. Only the first thread's
            // name is the name of the process.
            let first = task.pid == process;
            self.threads.add(process, task, first.then_some(comm), window.now_ns);
            return;
        }
        let process = task.tgid.or_else(|| notice.group.map(|(tgid, _)| tgid)).unwrap_or(task.pid);
        let (started_ns, at_ns) = window.place(task.lived_us, started_of(process));
        let (user_us, system_us) = task.cpu.split();
        let exit = Exit {
            identity: Identity { pid: process, started_ns },
            parent: task.parent,
            uid: task.uid,
            comm,
            at_ns,
            lived_us: task.lived_us,
            user_us,
            system_us,
            peak_kib: task.peak_kib,
            status: task.status,
            major_faults: task.major_faults,
            read_bytes: task.read_bytes,
            written_bytes: task.written_bytes,
        };
        // Without sums over a group of threads, the exit is complete.
        let Some((_, group)) = notice.group else { return out.push(exit) };
        // A full list is completed early instead of growing, even if messages about its threads are still unread.
        if self.pending.len() == MAX_PENDING {
            self.flush(out);
        }
        self.pending.push((exit, task.cpu, group.cpu));
    }

    /// Completes the exits of multi-threaded processes.
    fn flush(&mut self, out: &mut ExitBuffer) {
        for (mut exit, last, summed) in self.pending.drain(..) {
            let told = last.plus(self.threads.join(&mut exit));
            (exit.user_us, exit.system_us) = Cpu::of_process(summed, told).split();
            out.push(exit);
        }
    }
}

/// Parses a list of CPUs like `0-3,8` (the kernel's cputopology.rst).
fn cpus(list: &str) -> io::Result<Vec<u32>> {
    let number = |text: &str| text.parse::<u32>().ok();
    let range = |part: &str| match part.split_once('-') {
        Some((first, last)) => Some(number(first)?..=number(last)?),
        None => number(part).map(|cpu| cpu..=cpu),
    };
    let parts = list.trim().split(',').filter(|part| !part.is_empty());
    let ranges: Option<Vec<_>> = parts.map(range).collect();
    // The maximum of CONFIG_NR_CPUS is 8192.
    let ranges = ranges.filter(|ranges| ranges.iter().all(|range| *range.end() < 8192));
    Ok(ranges.ok_or(io::ErrorKind::InvalidData)?.into_iter().flatten().collect())
}
