//! The flight recorder: its own process, so that nothing the agent does can stop it. No network, no tokio.
//!
//! Every interval one thread reads all processes and the host's counters (`sweep`, `host`), codes what has changed, and
//! hands it over (`ring`) to another that appends it to the record (`storage`, [`crate::history`]): a disk that hangs
//! keeps no sample from being taken. Being killed costs nothing but what was not yet written. How late it was is part
//! of every sample: on a struggling host that is a symptom.
//! Every interval it reads all processes (`collector`, into `table`) and the host's counters (`host`), asks for what may
//! take longer (`details`), and appends one sample to the record ([`crate::history`]), which is on disk when `append` returns. Being killed costs nothing but the samples not
//! taken. How late it was is part of every sample: on a struggling host that is a symptom.

mod clock;
mod collector;
mod details;
mod directory;
mod host;
mod limits;
mod process;
mod ring;
mod storage;
mod sweep;
mod number;
mod table;
mod users;

use std::{
    fs, io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        time::TimeSpec,
    },
    time::{ClockId, clock_gettime},
    unistd::{SysconfVar, sysconf},
};
use proto::history::{BootId, Encoder, Sample};

use crate::history::{self, Policy, Writer};
use clock::Moment;
use collector::{Collector, Effort};
use details::Details;
use host::Host;
use storage::Storage;
use sweep::Sweep;
use table::Table;
use users::Users;

/// How long a sample waits for details, of processes that have just begun say; they may come with a later one.
const PATIENCE: Duration = Duration::from_millis(20);

/// Where to look, where to write, how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the record, see [`crate::paths::Paths::history`].
    pub history: PathBuf,
    /// The proc file system.
    pub proc: PathBuf,
    /// Where the kernel describes devices.
    pub sys: PathBuf,
    /// The root of the cgroup file systems, where a container sees its own limits.
    pub cgroup: PathBuf,
    /// The host's password file.
    pub passwd: PathBuf,
    /// Time between samples; they fall on its whole multiples.
    pub interval: Duration,
    /// A memory limit that the recorder cannot see from within, in bytes.
    pub memory_limit: Option<u64>,
    /// Bounds of the record.
    pub policy: Policy,
}

impl Options {
    /// Everything where Linux has it, once a second.
    pub fn new(history: impl Into<PathBuf>) -> Self {
        Self {
            history: history.into(),
            proc: "/proc".into(),
            sys: "/sys".into(),
            cgroup: "/sys/fs/cgroup".into(),
            passwd: "/etc/passwd".into(),
            interval: Duration::from_secs(1),
            memory_limit: None,
            policy: Policy::default(),
        }
    }
}

/// Why the recorder cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The record cannot be opened.
    #[error(transparent)]
    History(#[from] history::Error),
    /// The boot id cannot be had.
    #[error("cannot read the boot id from {}: {source}", .path.display())]
    BootId {
        /// Its file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// /proc cannot be listed, or a thread not be started.
    #[error("cannot look at processes: {0}")]
    Sweep(io::Error),
    /// A clock or a wait failed.
    #[error("cannot wait for the next sample: {0}")]
    Clock(#[from] Errno),
}

/// SIGTERM and SIGINT as a descriptor that becomes readable: the `stop` of [`run`].
///
/// Call it before any thread is started; the signals then no longer end the process by themselves.
pub fn stop_signals() -> Result<SignalFd, Error> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Locks the process in memory and asks the kernel to spare it; returns sentences about what was refused.
pub fn harden(options: &Options) -> Vec<String> {
    limits::harden(&options.proc)
}

/// Records until `stop` becomes readable or is hung up.
///
/// Fails only at the start. Later, a sample that cannot be taken or stored is lost, and the next one is tried.
pub fn run(options: &Options, stop: BorrowedFd) -> Result<(), Error> {
    let boot_id = boot_id(&options.proc)?;
    let page_kib = page_kib()?;
    let users = Users::new(&options.passwd);
    let budget = limits::descriptor_budget();
    let (collector, sentence) = collector::choose(&options.proc, page_kib, budget).map_err(Error::Sweep)?;
    if let Some(sentence) = sentence {
        tracing::info!("{sentence}");
    }
    let mut look = Look {
        collector,
        table: Table::new(users),
        details: Details::start(&options.proc).map_err(Error::Sweep)?,
        host: Host::open(&options.proc, &options.sys, &options.cgroup, options.memory_limit),
    };
    let now_ms = Moment::now()?.wall.as_millis() as i64;
    let (writer, lost) = Writer::open(&options.history, boot_id, now_ms, options.policy)?;
    for sentence in lost {
        tracing::warn!("{sentence}");
    }
    let storage = Storage::start(writer, options.policy.block.bytes / 2).map_err(Error::Sweep)?;
    let mut encoder = Encoder::new(options.policy.block);
    let mut record = Vec::new();
    let mut sample = Sample {
        boot_id,
        interval_ms: u32::try_from(options.interval.as_millis()).unwrap_or(u32::MAX),
        own_start_ns: nanoseconds(Moment::now()?.boottime),
        ..Sample::default()
    };
    let mut sample =
        Sample { boot_id, interval_ms: options.interval.as_millis() as u32, ..Sample::default() };
    let mut trouble = Trouble::default();
    loop {
        let before = Moment::now()?;
        let wait = clock::until_next(before.wall, options.interval);
        if is_readable_within(stop, wait)? {
            return Ok(());
        }
        sample.dropped = storage.dropped();
        if let Err(error) = take(&mut sample, before.boottime + wait, &mut sweep, &mut host) {
            tracing::error!("a sample is not taken: {error}");
            continue;
        }
        if storage.wants_key() {
            encoder.restart();
        }
        record.clear();
        encoder.encode(&sample, &mut record);
        storage.offer(&record);
    }
}

/// Takes one sample that was due at `due` on the boot clock.
fn take(sample: &mut Sample, due: Duration, sweep: &mut Sweep, host: &mut Host) -> Result<(), Error> {
    let begun = Moment::now()?;
    sample.wall_ms = begun.wall.as_millis() as i64;
    sample.boottime_ns = nanoseconds(begun.boottime);
    sample.late_ns = nanoseconds(begun.boottime.saturating_sub(due));
    sample.own_cpu_us = nanoseconds(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into()) / 1_000;
    sweep.run(sample).map_err(Error::Sweep)?;
    sample.host = host.read();
    sample.sweep_ns = nanoseconds(Moment::now()?.boottime.saturating_sub(begun.boottime));
    Ok(())
        let taken = look.take(&mut sample, before.boottime + wait);
        trouble.note(taken.and_then(|()| Ok(writer.append(&sample)?)).err());
    }
}

/// Everything that is looked at.
struct Look {
    collector: Box<dyn Collector>,
    table: Table,
    details: Details,
    host: Host,
}

impl Look {
    /// Takes one sample that was due at `due` on the boot clock.
    fn take(&mut self, sample: &mut Sample, due: Duration) -> Result<(), Error> {
        let begun = Moment::now()?;
        sample.wall_ms = begun.wall.as_millis() as i64;
        sample.boottime_ns = nanoseconds(begun.boottime);
        sample.late_ns = nanoseconds(begun.boottime.saturating_sub(due));
        let swept = self.collector.sweep(&mut self.table, Effort::Full).map_err(Error::Sweep)?;
        self.details.exchange(&mut self.table, PATIENCE);
        sample.collector = self.collector.kind();
        sample.listed = swept.listed;
        sample.rss_error_kib = swept.rss_error_kib;
        self.table.processes().clone_into(&mut sample.processes);
        sample.host = self.host.read();
        self.host.disks().clone_into(&mut sample.disks);
        self.details.filesystems().clone_into(&mut sample.filesystems);
        sample.sweep_ns = nanoseconds(Moment::now()?.boottime.saturating_sub(begun.boottime));
        Ok(())
    }
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

fn is_readable_within(fd: BorrowedFd, wait: Duration) -> Result<bool, Error> {
    let mut polled = [PollFd::new(fd, PollFlags::POLLIN)];
    match ppoll(&mut polled, Some(TimeSpec::from_duration(wait)), None) {
        Ok(count) => Ok(count > 0),
        // Woken by a signal that is nobody's business: the next sample is only a little early.
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{os::fd::AsFd, os::unix::net::UnixStream};

    use proto::history::Block;

    use super::*;
    use crate::history::{Reader, status};

    #[test]
    fn samples_come_in_time_until_it_is_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let mut options = Options::new(directory.path());
        options.interval = Duration::from_millis(50);
        let (stop, stopped) = UnixStream::pair().unwrap();
        let recorder = std::thread::spawn(move || run(&options, stopped.as_fd()));
        let mut follower = history::Follower::new(directory.path(), Some(0)).unwrap();
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
        assert!(Reader::new(directory.path()).blocks(0, i64::MAX).unwrap().next().is_some());
    }
}
