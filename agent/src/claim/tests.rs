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
        ("not claimed", None, request("b"), true),
        ("claimed by another", Some(&present), request("b"), false),
        (
            "until the last millisecond",
            Some(&Claim { until_unix_ms: NOW, ..present.clone() }),
            request("b"),
            false,
        ),
        ("the lease is over", Some(&lapsed), request("b"), true),
        ("the lease is over, but the claim is settled", Some(&settled), request("b"), false),
        ("an own claim", Some(&present), request("a"), true),
        ("an own claim, settled", Some(&settled), request("a"), true),
        ("replacing the claim", Some(&present), replacing("a"), true),
        ("replacing a settled claim", Some(&settled), replacing("a"), true),
        ("replacing a different claim", Some(&present), replacing("c"), false),
        ("replacing a claim that was released", None, replacing("c"), true),
        ("replacing a different claim after the lease", Some(&lapsed), replacing("c"), true),
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
fn changing_an_own_claim_keeps_the_time_it_was_taken() {
    let settle = ClaimRequest { settled: true, stop_after_s: 60, until_unix_ms: NOW + 9, ..request("a") };
    let settled = decide(Some(&claim("a")), &settle, "alice", NOW + 5).expect("it is one's own");
    assert_eq!(settled, Claim { settled: true, stop_after_s: 60, until_unix_ms: NOW + 9, ..claim("a") });
    let next = decide(Some(&settled), &ClaimRequest { replaces: "a".into(), ..request("b") }, "bob", NOW + 7);
    assert_eq!(next.expect("granted").taken_unix_ms, NOW + 7);
}

#[test]
fn malformed_claims_are_refused() {
    for id in ["", "../x", "A", &"x".repeat(65)] {
        assert!(matches!(decide(None, &request(id), "alice", NOW), Err(ClaimError::Invalid(_))), "{id:?}");
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
fn a_corrupt_claim_cannot_be_taken_but_cleared() {
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
fn only_one_of_many_concurrent_claims_is_granted() {
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
