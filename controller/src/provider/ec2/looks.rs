//! When to ask EC2 about a host that is being dialled: some seconds after the first attempt, then less and less often.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::pauses::Pauses;

/// First and longest pause between two questions to EC2.
const ASKING: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(15));

/// Pauses between two questions.
pub(super) fn asking() -> Pauses {
    Pauses::new(ASKING.0, ASKING.1)
}

/// When to ask EC2 next, by host id.
#[derive(Debug, Default)]
pub(super) struct Looks(HashMap<String, (Pauses, Instant)>);

impl Looks {
    /// Whether the pause since the last question, or since the first dial, is over.
    pub(super) fn is_due(&mut self, id: &str, now: Instant) -> bool {
        match self.0.get_mut(id) {
            None => {
                let mut pauses = asking();
                let due = now + pauses.length();
                self.0.insert(id.to_owned(), (pauses, due));
                false
            }
            Some((_, due)) if now < *due => false,
            Some((pauses, due)) => {
                *due = now + pauses.length();
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_become_rarer() {
        let (mut looks, start) = (Looks::default(), Instant::now());
        let due = (0..60).filter(|second| looks.is_due("i-1", start + Duration::from_secs(*second))).count();
        assert!((4..=7).contains(&due), "{due} looks in a minute");
    }
}
