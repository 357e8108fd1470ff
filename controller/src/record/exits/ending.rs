//! Decodes a wait status (wait(2)).

use nix::sys::signal::Signal;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Exited with a code.
    Code(u8),
    /// Killed by a signal.
    Signal(u8),
}

impl Ending {
    /// Decodes a wait status: the signal in the lowest 7 bits, the exit code in bits 8 to 15.
    pub(crate) fn of(status: u32) -> Self {
        match (status & 0x7f) as u8 {
            0 => Self::Code((status >> 8) as u8),
            signal => Self::Signal(signal),
        }
    }

    /// Anything but exit code 0.
    pub(crate) fn is_failure(self) -> bool {
        self != Self::Code(0)
    }

    /// Name of the signal, such as `SIGKILL`, or `signal 35` if it has no name; `None` for an exit code.
    pub(crate) fn signal_name(self) -> Option<String> {
        let Self::Signal(number) = self else { return None };
        let known = Signal::try_from(i32::from(number)).map(|signal| signal.as_str().to_owned());
        Some(known.unwrap_or_else(|_| format!("signal {number}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_is_a_code_or_a_signal() {
        assert_eq!(Ending::of(0), Ending::Code(0));
        assert_eq!(Ending::of(3 << 8), Ending::Code(3));
        // With a core dump.
        assert_eq!(Ending::of(11 | 0x80), Ending::Signal(11));
        assert_eq!(Ending::of(9).signal_name().as_deref(), Some("SIGKILL"));
        assert_eq!(Ending::of(35).signal_name().as_deref(), Some("signal 35"));
        assert!(Ending::of(15).is_failure() && !Ending::of(0).is_failure());
    }
}
