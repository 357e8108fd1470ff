//! Who has this host. Several controllers may want it at once and share nothing else, so the host decides, and
//! remembers over restarts and reboots.
//!
//! [`decide`], [`extend`] and [`may_release`] are the rules; [`Store`] applies them one at a time to the file. That
//! lies within the identity, so that it goes where the identity goes: a clone is nobody's.

use std::{
    fs,
    io::{self, ErrorKind},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use prost::Message;
use proto::pb::{Claim, ClaimRequest};

use crate::{durable, paths::Paths, run::is_run_id};

/// The longest holder, in bytes.
const MAX_HOLDER: usize = 200;

/// Why a claim is not granted, changed or given back.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Somebody else has the host.
    #[error("held by {} since {} (claim {})", .0.user, clock(.0.taken_unix_ms), .0.id)]
    Held(Claim),
    /// There is nothing to extend.
    #[error("nobody has this host, so there is no lease to extend")]
    Nobody,
    /// The request says something that no claim can.
    #[error("{0}")]
    Invalid(&'static str),
    /// The stored claim cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The stored claim is none.
    #[error("{} is not readable as a claim; release the host, whoever has it, to be rid of that", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
    },
}

/// The time of day in UTC. Which day, and in whose time zone, is for those who have the claim itself.
fn clock(unix_ms: i64) -> String {
    let minutes = unix_ms.div_euclid(60_000);
    format!("{:02}:{:02} UTC", minutes.div_euclid(60).rem_euclid(24), minutes.rem_euclid(60))
}

/// Has the lease of a claim that is not settled run out? Then anybody may take the host.
fn has_lapsed(claim: &Claim, now_unix_ms: i64) -> bool {
    !claim.settled && claim.until_unix_ms < now_unix_ms
}

/// What `user` gets who asks while `present` stands.
///
/// # Errors
/// [`ClaimError::Held`] or [`ClaimError::Invalid`].
pub fn decide(
    present: Option<&Claim>,
    request: &ClaimRequest,
    user: &str,
    now_unix_ms: i64,
) -> Result<Claim, ClaimError> {
    check(request)?;
    let own = present.filter(|claim| claim.id == request.id);
    let free = present
        .is_none_or(|claim| own.is_some() || claim.id == request.replaces || has_lapsed(claim, now_unix_ms));
    match present {
        Some(present) if !free => Err(ClaimError::Held(present.clone())),
        _ => Ok(Claim {
            id: request.id.clone(),
            user: user.to_owned(),
            holder: request.holder.clone(),
            taken_unix_ms: own.map_or(now_unix_ms, |claim| claim.taken_unix_ms),
            until_unix_ms: request.until_unix_ms,
            settled: request.settled,
            stop_after_s: request.stop_after_s,
        }),
    }
}

fn check(request: &ClaimRequest) -> Result<(), ClaimError> {
    if !is_run_id(&request.id) {
        return Err(ClaimError::Invalid("a claim's id is 1 to 64 characters of [a-z0-9-]"));
    }
    if request.holder.len() > MAX_HOLDER || request.holder.contains(char::is_control) {
        return Err(ClaimError::Invalid("a claim's holder is at most 200 bytes without control characters"));
    }
    if request.until_unix_ms <= 0 {
        return Err(ClaimError::Invalid("a claim says until when, in milliseconds since 1970"));
    }
    Ok(())
}

/// The present claim with its lease moved out to `until_unix_ms`, if that is later.
///
/// # Errors
/// [`ClaimError::Nobody`].
pub fn extend(present: Option<&Claim>, until_unix_ms: i64) -> Result<Claim, ClaimError> {
    let present = present.ok_or(ClaimError::Nobody)?;
    Ok(Claim { until_unix_ms: present.until_unix_ms.max(until_unix_ms), ..present.clone() })
}

/// May the claim `id`, or whichever it is if that is empty, be given back while `present` stands?
///
/// # Errors
/// [`ClaimError::Held`].
pub fn may_release(present: Option<&Claim>, id: &str) -> Result<(), ClaimError> {
    match present {
        Some(present) if !id.is_empty() && present.id != id => Err(ClaimError::Held(present.clone())),
        _ => Ok(()),
    }
}

/// The claim on disk. What a call says has happened is durable on its return; every call blocks on the disk.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// Held from reading what there is until what replaces it is there.
    alone: Mutex<()>,
}

impl Store {
    /// The claim of the host whose agent keeps things below `paths`. One store an agent.
    pub fn new(paths: &Paths) -> Self {
        Self { path: paths.claim(), alone: Mutex::default() }
    }

    /// Who has the host, be it that their lease is over.
    ///
    /// # Errors
    /// [`ClaimError::File`] or [`ClaimError::Corrupt`].
    pub fn present(&self) -> Result<Option<Claim>, ClaimError> {
        match fs::read(&self.path) {
            Ok(bytes) => match Claim::decode(bytes.as_slice()) {
                Ok(claim) if is_run_id(&claim.id) => Ok(Some(claim)),
                _ => Err(ClaimError::Corrupt { path: self.path.clone() }),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.failed(source)),
        }
    }

    /// Takes the host for `user`, or changes their claim: see [`decide`].
    ///
    /// # Errors
    /// Any but [`ClaimError::Nobody`].
    pub fn claim(&self, request: &ClaimRequest, user: &str, now_unix_ms: i64) -> Result<Claim, ClaimError> {
        self.replace(|present| decide(present, request, user, now_unix_ms))
    }

    /// Moves the end of the lease out: see [`extend`].
    ///
    /// # Errors
    /// [`ClaimError::Nobody`], [`ClaimError::File`] or [`ClaimError::Corrupt`].
    pub fn extend(&self, until_unix_ms: i64) -> Result<Claim, ClaimError> {
        self.replace(|present| extend(present, until_unix_ms))
    }

    /// Gives the host back and returns the claim that it had; an empty `id` means whichever, were it unreadable.
    ///
    /// # Errors
    /// [`ClaimError::Held`], [`ClaimError::File`] or [`ClaimError::Corrupt`].
    pub fn release(&self, id: &str) -> Result<Option<Claim>, ClaimError> {
        let _alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        let had = match self.present() {
            Err(ClaimError::Corrupt { .. }) if id.is_empty() => None,
            present => present?,
        };
        may_release(had.as_ref(), id)?;
        match fs::remove_file(&self.path).and_then(|()| durable::sync_parent(&self.path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.failed(error)),
            _ => Ok(had),
        }
    }

    fn replace(
        &self,
        rule: impl FnOnce(Option<&Claim>) -> Result<Claim, ClaimError>,
    ) -> Result<Claim, ClaimError> {
        let _alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        let claim = rule(self.present()?.as_ref())?;
        durable::write(&self.path, &claim.encode_to_vec()).map_err(|source| self.failed(source))?;
        Ok(claim)
    }

    fn failed(&self, source: io::Error) -> ClaimError {
        ClaimError::File { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;

    const NOW: i64 = 1_000_000;

    fn request(id: &str) -> ClaimRequest {
        let (id, holder) = (id.to_owned(), "laptop:1:2".to_owned());
        ClaimRequest { id, holder, until_unix_ms: NOW + 1, ..ClaimRequest::default() }
    }

    fn claim(id: &str) -> Claim {
        decide(None, &request(id), "alice", NOW).expect("a free host is granted")
    }

    fn store() -> (tempfile::TempDir, Store) {
        let root = tempfile::tempdir().expect("a directory");
        let paths = Paths::new(root.path());
        fs::create_dir(paths.state()).expect("made");
        (root, Store::new(&paths))
    }

    #[test]
    fn the_rules() {
        let present = claim("a");
        let lapsed = Claim { until_unix_ms: NOW - 1, ..present.clone() };
        let settled = Claim { settled: true, ..lapsed.clone() };
        let replacing = |id: &str| ClaimRequest { replaces: id.to_owned(), ..request("b") };
        let cases = [
            ("nobody has it", None, request("b"), true),
            ("somebody has it", Some(&present), request("b"), false),
            (
                "until the last millisecond",
                Some(&Claim { until_unix_ms: NOW, ..present.clone() }),
                request("b"),
                false,
            ),
            ("the lease is over", Some(&lapsed), request("b"), true),
            ("but the host is in use", Some(&settled), request("b"), false),
            ("it is one's own", Some(&present), request("a"), true),
            ("it is one's own, settled", Some(&settled), request("a"), true),
            ("it is taken from them", Some(&present), replacing("a"), true),
            ("it is taken from them although in use", Some(&settled), replacing("a"), true),
            ("it was to be taken from another", Some(&present), replacing("c"), false),
            ("it was to be taken from another who is gone", None, replacing("c"), true),
            ("from one that had lapsed anyway", Some(&lapsed), replacing("c"), true),
        ];
        for (what, present, request, granted) in cases {
            match decide(present, &request, "bob", NOW) {
                Ok(claim) => {
                    assert!(granted && (claim.id, claim.user) == (request.id, "bob".to_owned()), "{what}")
                }
                Err(ClaimError::Held(held)) => assert!(!granted && Some(&held) == present, "{what}"),
                Err(error) => panic!("{what}: {error}"),
            }
        }
    }

    #[test]
    fn a_change_of_ones_own_keeps_when_it_was_taken() {
        let settle = ClaimRequest { settled: true, stop_after_s: 60, until_unix_ms: NOW + 9, ..request("a") };
        let settled = decide(Some(&claim("a")), &settle, "alice", NOW + 5).expect("it is one's own");
        assert_eq!(settled, Claim { settled: true, stop_after_s: 60, until_unix_ms: NOW + 9, ..claim("a") });
        let next =
            decide(Some(&settled), &ClaimRequest { replaces: "a".into(), ..request("b") }, "bob", NOW + 7);
        assert_eq!(next.expect("granted").taken_unix_ms, NOW + 7);
    }

    #[test]
    fn what_no_claim_can_be_is_refused() {
        for id in ["", "../x", "A", &"x".repeat(65)] {
            assert!(
                matches!(decide(None, &request(id), "alice", NOW), Err(ClaimError::Invalid(_))),
                "{id:?}"
            );
        }
        for holder in ["x".repeat(201), "a\nb".to_owned()] {
            let request = ClaimRequest { holder, ..request("a") };
            assert!(matches!(decide(None, &request, "alice", NOW), Err(ClaimError::Invalid(_))));
        }
        let timeless = ClaimRequest { until_unix_ms: 0, ..request("a") };
        assert!(matches!(decide(None, &timeless, "alice", NOW), Err(ClaimError::Invalid(_))));
    }

    #[test]
    fn a_lease_is_never_shortened() {
        assert_eq!(extend(Some(&claim("a")), NOW + 5).expect("extended").until_unix_ms, NOW + 5);
        assert_eq!(extend(Some(&claim("a")), 5).expect("no harm"), claim("a"));
        assert!(matches!(extend(None, NOW), Err(ClaimError::Nobody)));
    }

    #[test]
    fn the_refusal_says_who_and_since_when() {
        let taken_unix_ms = ((12 * 60 + 3) * 60 + 59) * 1000;
        let held = ClaimError::Held(Claim { taken_unix_ms, ..claim("c-1") });
        assert_eq!(held.to_string(), "held by alice since 12:03 UTC (claim c-1)");
    }

    #[test]
    fn a_claim_outlives_the_agent_until_it_is_given_back() {
        let (root, store) = store();
        let taken = store.claim(&request("a"), "alice", NOW).expect("granted");
        drop(store);
        let store = Store::new(&Paths::new(root.path()));
        assert_eq!(store.present().expect("readable"), Some(taken.clone()));
        assert_eq!(store.extend(NOW + 9).expect("extended").until_unix_ms, NOW + 9);
        assert!(matches!(store.release("b"), Err(ClaimError::Held(held)) if held.until_unix_ms == NOW + 9));
        assert_eq!(store.release("a").expect("released").map(|claim| claim.id), Some(taken.id));
        assert_eq!(store.release("a").expect("no harm"), None);
        assert_eq!(store.present().expect("readable"), None);
    }

    #[test]
    fn an_unreadable_claim_is_nobodys_to_take_but_can_be_cleared() {
        let (_root, store) = store();
        for bytes in [b"\xff\xff".as_slice(), b""] {
            fs::write(&store.path, bytes).expect("written");
            assert!(matches!(store.claim(&request("a"), "alice", NOW), Err(ClaimError::Corrupt { .. })));
            assert!(matches!(store.release("a"), Err(ClaimError::Corrupt { .. })));
            assert_eq!(store.release("").expect("cleared"), None);
            assert_eq!(store.present().expect("readable"), None);
        }
    }

    #[test]
    fn of_many_at_once_one_gets_it() {
        let (_root, store) = store();
        let start = Barrier::new(8);
        let granted: Vec<_> = thread::scope(|scope| {
            let attempts: Vec<_> = (0..8)
                .map(|n| {
                    let (store, start) = (&store, &start);
                    scope.spawn(move || {
                        start.wait();
                        store.claim(&request(&format!("c-{n}")), "alice", NOW)
                    })
                })
                .collect();
            attempts.into_iter().filter_map(|attempt| attempt.join().expect("no panic").ok()).collect()
        });
        assert_eq!(granted.len(), 1);
        assert_eq!(store.present().expect("readable").as_ref(), granted.first());
    }
}
