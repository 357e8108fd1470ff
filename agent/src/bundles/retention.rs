//! Plans which bundles to remove after a new one arrived. Does not touch the disk; the store executes the plan.

use std::{cmp::Reverse, collections::BTreeSet, time::SystemTime};

use proto::bundle::Digest;

/// A bundle on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Digest of the bundle.
    pub digest: Digest,
    /// Time of the last upload, offer or apply.
    pub used: SystemTime,
}

/// The bundles to remove, least recently used first. Keeps the `keep` most recently used bundles and those in use,
/// which count towards `keep`.
pub(crate) fn plan(mut kept: Vec<Kept>, keep: usize, in_use: &BTreeSet<Digest>) -> Vec<Digest> {
    kept.sort_by_key(|bundle| (!in_use.contains(&bundle.digest), Reverse(bundle.used), bundle.digest));
    let surplus = kept.into_iter().skip(keep).map(|bundle| bundle.digest);
    let mut removals: Vec<Digest> = surplus.filter(|digest| !in_use.contains(digest)).collect();
    removals.reverse();
    removals
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn kept(age: u64) -> Kept {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        Kept { digest: Digest::of(&age.to_le_bytes()), used: now - Duration::from_secs(age) }
    }

    fn names(ages: &[u64]) -> Vec<Digest> {
        ages.iter().map(|age| kept(*age).digest).collect()
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let all = [30, 10, 40, 20].map(kept).to_vec();
        assert_eq!(plan(all.clone(), 2, &BTreeSet::new()), names(&[40, 30]));
        assert_eq!(plan(all.clone(), 4, &BTreeSet::new()), []);
        assert_eq!(plan(all, 9, &BTreeSet::new()), []);
    }

    #[test]
    fn bundles_in_use_stay_however_old() {
        let all = [10, 20, 30, 40].map(kept).to_vec();
        let in_use = BTreeSet::from([kept(40).digest]);
        assert_eq!(plan(all.clone(), 2, &in_use), names(&[30, 20]));
        let all_in_use = all.iter().map(|bundle| bundle.digest).collect();
        assert_eq!(plan(all, 1, &all_in_use), []);
    }
}
