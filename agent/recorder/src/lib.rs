//! The flight recorder: a separate process, which nothing in the agent can stop. It uses no network and no tokio.
//!
//! At every interval, one thread takes a sample (`sampler`): all processes (`collector`, into `table`), the host's
//! counters (`host`), control groups (`groups`), process exits ([`exits`]), kernel messages ([`kernel_log`]). It encodes the
//! changes and passes them (`ring`) to a second thread, which appends them to the record (`storage`,
//! [`record::directory`]): a hanging disk does not stop sampling. A third thread reads whatever may block (`details`). A
//! kill loses only what was not yet written. Every sample stores its own delay: on a struggling host, that is a symptom.

mod clock;
mod collector;
mod details;
pub mod exits;
mod groups;
mod harden;
mod host;
mod kept;
pub mod kernel_log;
mod lines;
mod number;
mod pressure;
mod proc;
mod ring;
mod sampler;
mod scope;
mod stacks;
mod storage;
mod table;
mod users;
mod wake;

use std::{
    fs, io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::{SysconfVar, sysconf},
};
use record::{BootId, Collector as Kind, Encoder, Sources};

use clock::Moment;
use collector::Effort;
use pressure::Pressure;
use record::directory::{self, Policy, Writer};
use sampler::{Interval, Sampler};
use storage::Storage;
use wake::{Wake, wait};

pub use host::{ControlGroups, look};

/// Samples per interval while memory is scarce; every fourth of them still reads everything.
const FAST: u32 = 4;

/// Paths, interval and limits of the recorder.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the record, which may not exist yet.
    pub history: PathBuf,
    /// The proc file system.
    pub proc: PathBuf,
    /// The sysfs file system.
    pub sys: PathBuf,
    /// Where a container sees its own limits.
    pub groups: ControlGroups,
    /// The host's password file.
    pub passwd: PathBuf,
    /// Path of the kernel log device.
    pub kernel_log: PathBuf,
    /// Time between samples, which fall on whole multiples of it.
    pub interval: Duration,
    /// How to read processes; `None`: the best collector that works here.
    pub collector: Option<Kind>,
    /// Lock the process in memory and protect it from the OOM killer.
    pub harden: bool,
    /// A memory limit that is not visible to the recorder, in bytes.
    pub memory_limit: Option<u64>,
    /// Size limits of the record.
    pub policy: Policy,
}

impl Options {
    /// Linux's usual paths, and one sample a second.
    pub fn new(history: impl Into<PathBuf>) -> Self {
        Self {
            history: history.into(),
            proc: "/proc".into(),
            sys: "/sys".into(),
            groups: ControlGroups::below(Path::new("/")),
            passwd: "/etc/passwd".into(),
            kernel_log: "/dev/kmsg".into(),
            interval: Duration::from_secs(1),
            collector: None,
            harden: false,
            memory_limit: None,
            policy: Policy::default(),
        }
    }

    /// The relevant memory pressure: in a container that of its own control group, if that accepts a trigger, else
    /// the machine's.
    fn pressure(&self) -> Result<Pressure, pressure::Error> {
        Pressure::open(&self.groups.own.join("memory.pressure"))
            .or_else(|_| Pressure::open(&self.proc.join("pressure/memory")))
    }
}

/// Why the recorder cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The record cannot be opened.
    #[error(transparent)]
    History(#[from] directory::Error),
    /// The boot id cannot be read.
    #[error("cannot read the boot id from {}: {source}", .path.display())]
    BootId {
        /// Path of the file.
        path: PathBuf,
        /// The error of the read.
        source: io::Error,
    },
    /// /proc cannot be listed, or a thread cannot be started.
    #[error("cannot read processes: {0}")]
    Sweep(io::Error),
    /// A clock or a wait failed.
    #[error("cannot wait for the next sample: {0}")]
    Clock(#[from] Errno),
}

/// SIGTERM and SIGINT as a file descriptor, to be passed to [`run`] as `stop`.
///
/// Call this before any thread is started; afterwards the signals no longer end the process.
pub fn stop_signals() -> Result<SignalFd, Error> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Records until `stop` becomes readable or is closed.
///
/// Fails only at the start. Later, a sample that cannot be taken or stored is lost, and recording continues.
pub fn run(options: &Options, stop: BorrowedFd) -> Result<(), Error> {
    let boot_id = boot_id(&options.proc)?;
    let newest = directory::status(&options.history).ok().and_then(|status| status.newest);
    let newest_ns = newest.filter(|newest| newest.boot_id == boot_id).map_or(0, |newest| newest.boottime_ns);
    let now_ms = Moment::now()?.wall.as_millis() as i64;
    let (writer, lost) = Writer::open(&options.history, boot_id, now_ms, options.policy)?;
    let mut sampler = Sampler::open(options, boot_id, newest_ns)?;
    // After the collector: the code that loads BPF needs a malloc arena that no other thread uses.
    let storage = Storage::start(writer, options.policy.block.bytes / 2).map_err(Error::Sweep)?;
    let pressure = sampler.have(Sources::PRESSURE, options.pressure());
    let collector = sampler.kind().name();
    sampler.note([format!("recording started; collector: {collector}")]);
    sampler.note(lost);
    if options.harden {
        // Only now: memory for startup has been freed and need not be locked.
        let (granted, refused) = harden::harden(&options.proc);
        sampler.grant(granted);
        sampler.note(refused);
    }
    record(options, &storage, &mut sampler, pressure, stop)
}

fn record(
    options: &Options,
    storage: &Storage,
    sampler: &mut Sampler,
    mut pressure: Option<Pressure>,
    stop: BorrowedFd,
) -> Result<(), Error> {
    let mut encoder = Encoder::new(options.policy.block);
    let mut record = Vec::new();
    let mut turn = 0;
    loop {
        let before = Moment::now()?;
        let fast = pressure.as_ref().is_some_and(|pressure| pressure.is_fast(nanoseconds(before.boottime)));
        let interval = interval(options.interval, fast, turn);
        let left = clock::until_next(before.wall, interval.length);
        match wait(stop, &mut pressure, left)? {
            Wake::Stop => return Ok(()),
            Wake::Pressure => continue,
            Wake::Due => turn += 1,
        }
        if storage.wants_key() {
            encoder.restart();
        }
        match sampler.take(before.boottime + left, interval, storage.dropped()) {
            Ok(sample) => {
                record.clear();
                encoder.encode(sample, &mut record);
                storage.offer(&record);
            }
            Err(error) => tracing::error!("cannot take a sample: {error}"),
        }
    }
}

fn interval(planned: Duration, fast: bool, turn: u32) -> Interval {
    if !fast {
        return Interval { length: planned, fast, effort: Effort::Full };
    }
    let effort = if turn.is_multiple_of(FAST) { Effort::Full } else { Effort::Cheap };
    Interval { length: planned / FAST, fast, effort }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn boot_id(proc: &Path) -> Result<BootId, Error> {
    let path = proc.join("sys/kernel/random/boot_id");
    let text = fs::read_to_string(&path);
    let parsed = text.and_then(|text| text.parse().map_err(io::Error::other));
    parsed.map_err(|source| Error::BootId { path, source })
}

fn page_kib() -> Result<u64, Error> {
    let bytes = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|bytes| u64::try_from(bytes).ok());
    Ok(bytes.ok_or(Errno::EINVAL)? / 1024)
}

#[cfg(test)]
mod tests {
    use std::{os::fd::AsFd, os::unix::net::UnixStream};

    use record::{Block, Sample};

    use super::*;
    use record::directory::{Filter, Reader, status};

    #[test]
    fn samples_come_in_time_until_it_is_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let mut options = Options::new(directory.path());
        options.interval = Duration::from_millis(50);
        let (stop, stopped) = UnixStream::pair().unwrap();
        let recorder = std::thread::spawn(move || run(&options, stopped.as_fd()));
        let mut follower = directory::Follower::new(directory.path(), Some(0)).unwrap();
        let mut samples = Vec::new();
        while samples.len() < 4 {
            for block in follower.poll().unwrap() {
                samples.extend(Block::parse(&block.data).unwrap().samples().unwrap().map(Result::unwrap));
            }
            std::thread::yield_now();
        }
        assert!(status(directory.path()).unwrap().running);
        drop(stop);
        recorder.join().unwrap().unwrap();
        assert!(!status(directory.path()).unwrap().running);

        let own = |sample: &Sample| {
            sample.processes.iter().any(|process| process.identity.pid == std::process::id())
        };
        assert!(samples.iter().all(own));
        assert!(samples.is_sorted_by(|a, b| a.boottime_ns < b.boottime_ns));
        assert!(samples.iter().all(|sample| sample.host.memory_total_kib > Some(0)));
        assert!(samples[0].events.iter().any(|event| event.text.starts_with("recording started")));
        assert!(Reader::new(directory.path()).blocks(Filter::default()).unwrap().next().is_some());
    }
}
