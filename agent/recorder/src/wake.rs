//! What ends the wait for the next sample.

use std::{os::fd::BorrowedFd, time::Duration};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
};

use super::{Error, clock::Moment, nanoseconds, pressure::Pressure};

/// Why the wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// The next sample is due.
    Due,
    /// The kernel says that memory is scarce.
    Pressure,
    /// The recorder is to end.
    Stop,
}

/// Waits for a stop, for the kernel's word on memory, or until `left` is over. A trigger that is gone is taken away.
pub(super) fn wait(stop: BorrowedFd, pressure: &mut Option<Pressure>, left: Duration) -> Result<Wake, Error> {
    let trigger = pressure.as_ref().map_or(stop, Pressure::descriptor);
    let events = pressure.as_ref().map_or(PollFlags::empty(), |_| Pressure::EVENTS);
    let mut polled = [PollFd::new(stop, PollFlags::POLLIN), PollFd::new(trigger, events)];
    match ppoll(&mut polled, Some(TimeSpec::from_duration(left)), None) {
        Ok(0) => return Ok(Wake::Due),
        Ok(_) => {}
        // Woken by a signal that is nobody's business: the next sample is only a little early.
        Err(Errno::EINTR) => return Ok(Wake::Due),
        Err(errno) => return Err(errno.into()),
    }
    let [stopped, pulled] = polled.map(|polled| polled.revents().unwrap_or(PollFlags::empty()));
    if !stopped.is_empty() {
        return Ok(Wake::Stop);
    }
    let now_ns = nanoseconds(Moment::now()?.boottime);
    if pressure.as_mut().is_some_and(|pressure| !pressure.note(pulled, now_ns)) {
        *pressure = None;
    }
    Ok(Wake::Pressure)
}
