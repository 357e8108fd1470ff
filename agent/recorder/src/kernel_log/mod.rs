//! The kernel log, read directly from /dev/kmsg, so that it does not depend on a log daemon that may be dead.
//!
//! Each read returns one record. Records that were overwritten before they could be read appear as a gap in the
//! sequence. Older records, from before the recorder's start, are included.

mod collector;
mod line;

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
};

use nix::{errno::Errno, libc};
use record::Event;

use collector::Collector;
pub use line::Record;

/// Longer than any record: CONSOLE_EXT_LOG_MAX is 8192.
const RECORD_BYTES: usize = 8192;
/// Maximum number of records read at once: about as many as a log of 1 MiB contains.
const MAX_RECORDS: usize = 16384;

/// Why the kernel log is not recorded.
#[derive(Debug, thiserror::Error)]
#[error("kernel messages, including out-of-memory kills, are not recorded: {}: {source}; {}", .path, hint(.source))]
pub struct Error {
    path: String,
    source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "the recorder needs CAP_SYSLOG and access to the device",
        _ => "a container has no log of its own",
    }
}

/// The clocks at one moment, in ns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clocks {
    /// Time since boot, including suspend.
    pub boottime_ns: u64,
    /// Time since boot, excluding suspend.
    pub monotonic_ns: u64,
}

/// Reads the kernel's log.
#[derive(Debug)]
pub struct KernelLog {
    file: File,
    collector: Collector,
    line: String,
    /// Records up to this time on the boot clock are already recorded.
    after_ns: u64,
    next: Option<u64>,
    lost: u64,
    /// Time of the last drain; `None` while the existing log is read.
    drained_ns: Option<u64>,
}

impl KernelLog {
    /// Opens the log; records up to `after_ns` on the boot clock are already recorded.
    ///
    /// # Errors
    /// If the log cannot be read; the message says why.
    pub fn open(path: &Path, after_ns: u64) -> Result<Self, Error> {
        let failed = |source| Error { path: path.display().to_string(), source };
        let mut options = OpenOptions::new();
        let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
        let mut log = Self::of(file.into(), after_ns);
        // With kernel.dmesg_restrict, some kernels refuse only the first read.
        match log.file.read(&mut []) {
            Err(source) if matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => {
                Err(failed(source))
            }
            _ => Ok(log),
        }
    }

    fn of(log: OwnedFd, after_ns: u64) -> Self {
        Self {
            file: log.into(),
            collector: Collector::new(),
            line: String::with_capacity(RECORD_BYTES),
            after_ns,
            next: None,
            lost: 0,
            drained_ns: None,
        }
    }

    /// Adds new events to `out`. Never waits.
    pub fn drain(&mut self, now: Clocks, out: &mut Vec<Event>) {
        let mut buffer = [0; RECORD_BYTES];
        for _ in 0..MAX_RECORDS {
            let length = match self.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    // Overwritten: the next read continues with the oldest remaining record, and the gap shows how
                    // many are missing.
                    Some(Errno::EPIPE | Errno::EINTR) => continue,
                    _ => break,
                },
            };
            if let Some(record) = Record::parse(&buffer[..length]) {
                self.take(&record, now, out);
            }
        }
        self.collector.pause(now.boottime_ns, out);
        self.drained_ns = Some(now.boottime_ns);
    }

    /// Number of records that were overwritten before they could be read.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Descriptor that is readable when there is something to [`drain`](Self::drain).
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn take(&mut self, record: &Record<'_>, now: Clocks, out: &mut Vec<Event>) {
        let expected = self.next.unwrap_or(record.sequence);
        self.lost += record.sequence.saturating_sub(expected);
        self.next = Some(record.sequence.saturating_add(1));
        let at_ns = self.boottime_ns(record.at_us, now);
        if record.is_kernels() && at_ns > self.after_ns {
            record.text(&mut self.line);
            self.collector.note(&self.line, at_ns, out);
        }
    }

    /// The time of a record on the boot clock. Records that arrived since the last drain cannot be older than it,
    /// whatever their own clock shows.
    fn boottime_ns(&self, at_us: u64, now: Clocks) -> u64 {
        let suspended_ns = now.boottime_ns.saturating_sub(now.monotonic_ns);
        let at_ns = at_us.saturating_mul(1000).saturating_add(suspended_ns);
        at_ns.max(self.drained_ns.map_or(0, |drained| drained + 1)).min(now.boottime_ns)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use record::oom::OomKill;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn clocks(seconds: u64) -> Clocks {
        Clocks { boottime_ns: (seconds + 100) * SECOND, monotonic_ns: seconds * SECOND }
    }

    /// A log like the kernel's, with one record for each read, and its writing end.
    fn log(after_ns: u64) -> (KernelLog, UnixDatagram) {
        let (reader, writer) = UnixDatagram::pair().unwrap();
        reader.set_nonblocking(true).unwrap();
        (KernelLog::of(reader.into(), after_ns), writer)
    }

    fn write(writer: &UnixDatagram, sequence: u64, seconds: u64, text: &str) {
        writer.send(format!("6,{sequence},{},-;{text}\n", seconds * 1_000_000).as_bytes()).unwrap();
    }

    #[test]
    fn older_messages_are_read_with_their_time_and_recorded_ones_are_skipped() {
        let (mut log, writer) = log(150 * SECOND);
        write(&writer, 3, 40, "a: I/O error, old");
        write(&writer, 4, 60, "b: I/O error");
        writer.send(b"14,5,61000000,-;somebody says: I/O error\n").unwrap();
        let mut events = Vec::new();
        log.drain(clocks(70), &mut events);
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].at_ns, &*events[0].text), (160 * SECOND, "b: I/O error"));

        // The record's own clock is behind.
        write(&writer, 6, 65, "c: I/O error");
        write(&writer, 9, 99, "d: I/O error");
        log.drain(clocks(71), &mut events);
        let times: Vec<_> = events.iter().map(|event| event.at_ns).collect();
        assert_eq!(times, [160 * SECOND, 170 * SECOND + 1, 171 * SECOND]);
        assert_eq!(log.lost(), 2);
    }

    #[test]
    fn a_real_kill_is_one_event() {
        let text = include_str!("../../../../proto/record/src/oom/texts/6.18-cgroup-v1.txt");
        let (mut log, writer) = log(0);
        let mut events = Vec::new();
        for (sequence, line) in (0..).zip(text.lines()) {
            write(&writer, sequence, 1, line);
            log.drain(clocks(2), &mut events);
        }
        assert_eq!(events.iter().map(|event| &*event.text).collect::<Vec<_>>(), [text.trim_end()]);
        assert_eq!(OomKill::parse(&events[0].text).unwrap().table.len(), 4);
    }

    #[test]
    fn this_machines_log_is_read_to_its_end_or_there_is_a_reason() {
        match KernelLog::open(Path::new("/dev/kmsg"), 0) {
            Ok(mut log) => {
                let mut events = Vec::new();
                log.drain(clocks(1 << 30), &mut events);
                assert!(log.next > Some(0) && log.lost() == 0);
            }
            Err(error) => eprintln!("skipped: {error}"),
        }
        let error = KernelLog::open(Path::new("/nonexistent/kmsg"), 0).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/kmsg") && error.contains("container"), "{error}");
    }
}
