//! Waits for the next sample.

use std::{os::fd::BorrowedFd, time::Duration};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
};

use super::{Error, clock::Moment, nanoseconds, pressure::Pressure};

/// Why the wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// The next sample is due.
    Due,
    /// The kernel reports memory pressure.
    Pressure,
    /// The recorder must stop.
    Stop,
}

/// Waits for a stop, for memory pressure, or until `left` has passed. Drops a trigger whose control group is gone.
pub(super) fn wait(stop: BorrowedFd, pressure: &mut Option<Pressure>, left: Duration) -> Result<Wake, Error> {
    let trigger = pressure.as_ref().map_or(stop, Pressure::descriptor);
    let events = pressure.as_ref().map_or(PollFlags::empty(), |_| Pressure::EVENTS);
    let mut polled = [PollFd::new(stop, PollFlags::POLLIN), PollFd::new(trigger, events)];
    match ppoll(&mut polled, Some(TimeSpec::from_duration(left)), None) {
        Ok(0) => return Ok(Wake::Due),
        Ok(_) => {}
        // Interrupted by an unrelated signal: the next sample is only slightly early.
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
