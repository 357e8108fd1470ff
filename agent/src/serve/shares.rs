//! How much of something limited one party may have at once.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

/// Counts what each party has; clones count together.
#[derive(Clone, Debug)]
pub(super) struct Shares<K> {
    limit: usize,
    held: Arc<Mutex<HashMap<K, usize>>>,
}

/// One of a party's shares, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share<K: Eq + Hash> {
    party: K,
    held: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// At most `limit` for each party.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, held: Arc::default() }
    }

    /// One more for `party`, unless it has all that it may.
    pub(super) fn take(&self, party: K) -> Option<Share<K>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.get(&party).copied().unwrap_or_default();
        if count >= self.limit {
            return None;
        }
        held.insert(party.clone(), count + 1);
        Some(Share { party, held: Arc::clone(&self.held) })
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // Parties that have nothing are forgotten: there may be many in the course of time.
        if held.get(&self.party).is_some_and(|count| *count <= 1) {
            held.remove(&self.party);
        } else if let Some(count) = held.get_mut(&self.party) {
            *count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_party_has_its_own_and_gives_it_back() {
        let shares = Shares::new(2);
        let (first, second) = (shares.take("a"), shares.take("a"));
        assert!(first.is_some() && second.is_some());
        assert!(shares.clone().take("a").is_none());
        assert!(shares.take("b").is_some());
        drop(first);
        let again = shares.take("a");
        assert!(again.is_some() && shares.take("a").is_none());
        drop((second, again));
        assert!(shares.held.lock().expect("no panic").is_empty());
    }
}
