//! The flight recorder: its own process, so that nothing the agent does can stop it. It sends nothing, and has no tokio.
//!
//! Every interval one thread takes a sample (`sampler`): all processes (`collector`, into `table`), the host's counters
//! (`host`), ends of processes ([`exits`]), words of the kernel ([`kernel_log`]). It codes what has changed and hands it
//! over (`ring`) to another that appends it to the record (`storage`, [`record::directory`]): a disk that hangs keeps no
//! sample from being taken. What may block is read by a third (`details`). Being killed costs nothing but what was not yet
//! written. How late it was is part of every sample: on a struggling host that is a symptom.

mod clock;
mod collector;
mod details;
pub mod exits;
mod harden;
mod host;
mod kept;
pub mod kernel_log;
mod number;
pub mod pressure;
mod proc;
mod ring;
mod sampler;
mod scope;
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

/// While memory is scarce, samples are taken so many times as often; every so-manieth still takes the full effort.
const FAST: u32 = 4;

/// Where to look, where to write, how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the record, which need not exist.
    pub history: PathBuf,
    /// The proc file system.
    pub proc: PathBuf,
    /// Where the kernel describes devices.
    pub sys: PathBuf,
    /// Where a container sees its own limits.
    pub groups: ControlGroups,
    /// The host's password file.
    pub passwd: PathBuf,
    /// The kernel's log.
    pub kernel_log: PathBuf,
    /// Time between samples; they fall on its whole multiples.
    pub interval: Duration,
    /// How to look at processes; the best that works here if absent.
    pub collector: Option<Kind>,
    /// Lock the process in memory and ask the kernel to spare it.
    pub harden: bool,
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

    /// The memory pressure that counts: in a container its own control group's, where that takes a trigger, else the machine's.
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

/// Records until `stop` becomes readable or is hung up.
///
/// Fails only at the start. Later, a sample that cannot be taken or stored is lost, and the next one is tried.
pub fn run(options: &Options, stop: BorrowedFd) -> Result<(), Error> {
    let boot_id = boot_id(&options.proc)?;
    let newest = directory::status(&options.history).ok().and_then(|status| status.newest);
    let newest_ns = newest.filter(|newest| newest.boot_id == boot_id).map_or(0, |newest| newest.boottime_ns);
    let now_ms = Moment::now()?.wall.as_millis() as i64;
    let (writer, lost) = Writer::open(&options.history, boot_id, now_ms, options.policy)?;
    let mut sampler = Sampler::open(options, boot_id, newest_ns)?;
    // After the collector: what loads BPF needs an arena that no other thread has.
    let storage = Storage::start(writer, options.policy.block.bytes / 2).map_err(Error::Sweep)?;
    let pressure = sampler.have(Sources::PRESSURE, options.pressure());
    let collector = sampler.kind().name();
    sampler.note([format!("recording begins; collector: {collector}")]);
    sampler.note(lost);
    if options.harden {
        // Only now: what starting takes is given back, and need not be locked before.
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
            Err(error) => tracing::error!("a sample is not taken: {error}"),
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
        assert!(samples[0].events.iter().any(|event| event.text.starts_with("recording begins")));
        assert!(Reader::new(directory.path()).blocks(Filter::default()).unwrap().next().is_some());
    }
}
