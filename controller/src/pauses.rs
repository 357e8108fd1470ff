//! Pauses between retries and polls: growing, bounded, with jitter.

use std::time::{Duration, Instant};

/// Growth of each pause, up to `longest`.
const FACTOR: f64 = 1.6;
/// Each pause varies by up to this fraction, so that many hosts are not polled at the same moment.
const JITTER: f64 = 0.2;

/// An endless series of pauses.
#[derive(Clone, Debug)]
pub(crate) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    /// Pauses that grow from `first` to `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    /// The next pause; `chance` is from 0 to 1.
    fn with(&mut self, chance: f64) -> Duration {
        let pause = self.next.mul_f64(1.0 + JITTER * (2.0 * chance - 1.0));
        self.next = self.next.mul_f64(FACTOR).min(self.longest);
        pause
    }

    /// The length of the next pause.
    pub(crate) fn length(&mut self) -> Duration {
        let mut byte = [0];
        // Without random numbers there is no jitter.
        let chance = aws_lc_rs::rand::fill(&mut byte).map_or(0.5, |()| f64::from(byte[0]) / 255.0);
        self.with(chance)
    }

    /// Sleeps for the next pause if it ends before `deadline`; returns whether it did.
    pub(crate) async fn pause_before(&mut self, deadline: Instant) -> bool {
        let pause = self.length();
        let fits = Instant::now() + pause < deadline;
        if fits {
            tokio::time::sleep(pause).await;
        }
        fits
    }

    /// Sleeps for the next pause.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.length()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut pauses = Pauses::new(Duration::from_secs(3), Duration::from_secs(15));
        let schedule: Vec<u128> = (0..6).map(|_| pauses.with(0.5).as_millis()).collect();
        assert_eq!(schedule, [3_000, 4_800, 7_680, 12_288, 15_000, 15_000]);
    }

    #[test]
    fn jitter_changes_a_pause_by_up_to_a_fifth() {
        let pauses = Pauses::new(Duration::from_secs(10), Duration::from_secs(10));
        assert_eq!(pauses.clone().with(0.0), Duration::from_secs(8));
        assert_eq!(pauses.clone().with(1.0), Duration::from_secs(12));
    }
}
