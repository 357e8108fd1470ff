//! Reproducible random moments: the seed is printed, and `MAGPIE_SEED` sets it.

use std::{
    env,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// A splitmix64 generator (Steele, Lea, Flood 2014).
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new() -> Self {
        let given = env::var("MAGPIE_SEED").ok().map(|text| text.parse().expect("MAGPIE_SEED is a number"));
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
        println!("MAGPIE_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A random duration from zero up to this one, in microseconds.
    pub(crate) fn within(&mut self, longest: Duration) -> Duration {
        let longest = u64::try_from(longest.as_micros()).expect("not that long");
        Duration::from_micros(self.next() % (longest + 1))
    }
}
