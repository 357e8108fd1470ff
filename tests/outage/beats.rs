//! The heartbeat of a virtual machine: shows how much of a period the machine was running, and how much it stalled.

/// Beats come every 100 ms. A longer time between two beats than this counts as a stall: not even an idle process that is
/// locked in memory ran.
const STANDSTILL_NS: u64 = 300_000_000;

/// Times of the beats on the guest's boot clock, ns, ascending.
#[derive(Debug)]
pub(crate) struct Beats(Vec<u64>);

impl Beats {
    /// The beats among the lines of a console.
    pub(crate) fn heard(console: &[String]) -> Self {
        Self(console.iter().filter_map(|line| beat(line)).collect())
    }

    /// The first and the last beat.
    pub(crate) fn ends(&self) -> (u64, u64) {
        (*self.0.first().expect("the heart beats"), *self.0.last().expect("the heart beats"))
    }

    /// How long the machine was running between two moments, ns.
    pub(crate) fn awake_ns(&self, from: u64, until: u64) -> u64 {
        let overlap = |pair: &[u64]| pair[1].min(until).saturating_sub(pair[0].max(from)).min(STANDSTILL_NS);
        self.0.windows(2).map(overlap).sum()
    }

    /// The longest time between two beats, ns.
    pub(crate) fn longest_pause_ns(&self) -> u64 {
        self.0.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }
}

/// The time in a line of the heartbeat. The kernel may print its own messages inside other lines.
pub(crate) fn beat(line: &str) -> Option<u64> {
    line.strip_prefix("alive ")?.strip_suffix(';')?.parse().ok()
}

#[test]
fn a_standstill_does_not_count() {
    let console = ["alive 100000000;", "alive 2[ 1.0] a kernel", "alive 200000000;", "alive 5200000000;"];
    let beats = Beats::heard(&console.map(str::to_owned));
    assert_eq!(beats.ends(), (100_000_000, 5_200_000_000));
    assert_eq!(beats.awake_ns(150_000_000, 200_000_000), 50_000_000);
    assert_eq!(beats.awake_ns(0, u64::MAX), 400_000_000);
    assert_eq!(beats.longest_pause_ns(), 5_000_000_000);
}
