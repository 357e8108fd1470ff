//! Limits how much of a resource each party may use at once.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use proto::identity::{Role, User};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Counts each party's shares; clones share the counts.
#[derive(Clone, Debug)]
pub(super) struct Shares<K> {
    limit: usize,
    held: Arc<Mutex<HashMap<K, usize>>>,
}

/// One share of a party, returned on drop.
#[derive(Debug)]
pub(super) struct Share<K: Eq + Hash> {
    party: K,
    held: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// At most `limit` shares for each party.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, held: Arc::default() }
    }

    /// One more share for `party`; `None` at the limit.
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
        // Forget parties without shares: over time there may be many.
        if held.get(&self.party).is_some_and(|count| *count <= 1) {
            held.remove(&self.party);
        } else if let Some(count) = held.get_mut(&self.party) {
            *count -= 1;
        }
    }
}

/// The number of places, and how they are divided.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Total number of places.
    pub all: usize,
    /// Places reserved for operators and admins, so that readers cannot lock them out.
    pub kept: usize,
    /// Maximum number for one user.
    pub each: usize,
}

/// Places for users.
#[derive(Clone, Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    open: Arc<Semaphore>,
    users: Shares<String>,
}

/// A user's place, returned on drop.
#[derive(Debug)]
pub(super) struct Place {
    _all: OwnedSemaphorePermit,
    _open: Option<OwnedSemaphorePermit>,
    _share: Share<String>,
}

/// Why no place is available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// This user is at the limit for one user.
    User,
    /// All places that this user may take are taken.
    All,
}

impl Places {
    /// Places within these bounds.
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            all: Arc::new(Semaphore::new(bounds.all)),
            open: Arc::new(Semaphore::new(bounds.all.saturating_sub(bounds.kept))),
            users: Shares::new(bounds.each),
        }
    }

    /// Takes a place for `user`.
    pub(super) fn take(&self, user: &User) -> Result<Place, Full> {
        let share = self.users.take(user.name.clone()).ok_or(Full::User)?;
        let one_of = |places: &Arc<Semaphore>| Arc::clone(places).try_acquire_owned().map_err(|_| Full::All);
        let open = if user.role >= Role::Operator { None } else { Some(one_of(&self.open)?) };
        Ok(Place { _all: one_of(&self.all)?, _open: open, _share: share })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_places_are_reserved_for_operators() {
        let places = Places::new(Bounds { all: 5, kept: 2, each: 2 });
        let take = |name: &str, role| places.take(&User { name: name.to_owned(), role });
        let ada = [take("ada", Role::Reader), take("ada", Role::Reader)];
        assert!(ada.iter().all(Result::is_ok));
        assert_eq!(take("ada", Role::Reader).err(), Some(Full::User));
        let bob = take("bob", Role::Reader);
        assert!(bob.is_ok());
        assert_eq!(take("bob", Role::Reader).err(), Some(Full::All));
        let eve = [take("eve", Role::Operator), take("eve", Role::Operator)];
        assert!(eve.iter().all(Result::is_ok), "readers took three of five");
        assert_eq!(take("root", Role::Admin).err(), Some(Full::All));
        drop(bob);
        assert!(take("root", Role::Admin).is_ok());
        drop((ada, eve));
        assert!(take("ada", Role::Reader).is_ok());
    }

    #[test]
    fn shares_are_counted_per_party_and_returned() {
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
