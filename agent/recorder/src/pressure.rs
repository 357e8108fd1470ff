//! Detects memory pressure with a trigger on pressure stall information (the kernel's psi.rst). Pressure turns on the
//! fast mode, with more frequent samples that skip expensive reads.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
};

use nix::{libc, poll::PollFlags};

/// A task waits for 150 ms within a second; windows below 2 s need CAP_SYS_RESOURCE, older kernels require it for any.
const TRIGGERS: [&str; 2] = ["some 150000 1000000", "some 300000 2000000"];
/// How long the fast mode lasts after the last trigger.
const FAST_NS: u64 = 10_000_000_000;

/// Why no trigger could be set.
#[derive(Debug, thiserror::Error)]
#[error("the recorder cannot detect memory pressure: {}: {source}{}", .path.display(), hint(.source))]
pub(crate) struct Error {
    path: PathBuf,
    source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => "; start the kernel with psi=1",
        Some(libc::ENOENT) => "; the kernel was built without pressure stall information",
        _ => "",
    }
}

/// A trigger, and whether it fired recently.
#[derive(Debug)]
pub(crate) struct Pressure {
    file: File,
    fast: Fast,
}

impl Pressure {
    /// Sets a trigger on a `pressure/memory` or `memory.pressure` file.
    ///
    /// # Errors
    /// If the kernel refuses the trigger.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error { path: path.to_owned(), source };
        let mut refused = None;
        for trigger in TRIGGERS {
            // Each open file can have one trigger.
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
            let mut file = options.open(path).map_err(failed)?;
            match file.write_all(format!("{trigger}\0").as_bytes()) {
                Ok(()) => return Ok(Self { file, fast: Fast::default() }),
                Err(source) => refused = Some(source),
            }
        }
        Err(failed(refused.unwrap_or_else(|| io::ErrorKind::Unsupported.into())))
    }

    /// Descriptor to poll for [`Self::EVENTS`]; polling consumes the event, so pass the result to [`Self::note`].
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Events to poll for.
    pub(crate) const EVENTS: PollFlags = PollFlags::POLLPRI;

    /// Handles the result of a poll. Returns false if the control group is gone, and the trigger with it.
    pub(crate) fn note(&mut self, answer: PollFlags, now_ns: u64) -> bool {
        if answer.contains(PollFlags::POLLPRI) {
            self.fast.note(now_ns);
        }
        !answer.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL)
    }

    /// Whether the fast mode is on.
    pub(crate) fn is_fast(&self, now_ns: u64) -> bool {
        self.fast.is_on(now_ns)
    }
}

/// The fast mode: on from a trigger until a fixed time after the last one.
#[derive(Clone, Copy, Debug, Default)]
struct Fast {
    last_ns: Option<u64>,
}

impl Fast {
    fn note(&mut self, now_ns: u64) {
        self.last_ns = Some(now_ns);
    }

    fn is_on(self, now_ns: u64) -> bool {
        self.last_ns.is_some_and(|last_ns| now_ns.saturating_sub(last_ns) < FAST_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_mode_ends_some_time_after_the_last_trigger() {
        let mut fast = Fast::default();
        assert!(!fast.is_on(0));
        fast.note(5);
        fast.note(FAST_NS);
        assert!(fast.is_on(FAST_NS) && fast.is_on(2 * FAST_NS - 1));
        assert!(!fast.is_on(2 * FAST_NS));
    }

    #[test]
    fn a_trigger_is_set_or_there_is_a_reason() {
        match Pressure::open(Path::new("/proc/pressure/memory")) {
            Ok(mut pressure) => {
                assert!(pressure.note(PollFlags::empty(), 1) && !pressure.is_fast(1));
                assert!(pressure.note(Pressure::EVENTS, 1) && pressure.is_fast(1));
                assert!(!pressure.note(PollFlags::POLLERR, 1));
            }
            Err(error) => eprintln!("skipped: {error}"),
        }
        let error = Pressure::open(Path::new("/nonexistent/memory")).unwrap_err().to_string();
        assert!(
            error.contains("/nonexistent/memory") && error.ends_with("pressure stall information"),
            "{error}"
        );
    }
}
