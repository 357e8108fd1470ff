//! Which hosts to reuse before launching new ones: unfinished hosts, then idle running hosts, then stopped hosts.
//!
//! A host that is in use or being worked on is never a candidate. If a free host is passed over, the reason is
//! reported.

use aws_lc_rs::digest::{SHA256, digest};
use proto::{identity::document, units::size};

use super::lease;
use crate::{
    holder::Life,
    provider::{Fingerprint, Host, HostState, Standing},
};

/// How far down the ladder to go before launching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Reuse {
    /// Only running hosts
    Running,
    /// Running hosts, then stopped ones
    #[default]
    Stopped,
    /// Always launch new hosts
    Never,
}

/// How a host can be reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rung {
    /// Its provisioning was interrupted and is now finished.
    Unfinished,
    /// It is running and free.
    Running,
    /// It is stopped and free.
    Stopped,
}

/// A host to try.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Candidate {
    /// The host.
    pub host: Host,
    /// How it can be reused.
    pub rung: Rung,
}

/// A free host that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PassedOver {
    /// Its name.
    pub host: String,
    /// Why, in a sentence without subject: `image is a, wanted b`.
    pub why: String,
}

/// The hosts to try, in order, and the free hosts that do not fit.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ladder {
    /// The best first.
    pub candidates: Vec<Candidate>,
    /// In the order listed.
    pub passed_over: Vec<PassedOver>,
}

/// The kind of host that is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// The role.
    pub role: &'a str,
    /// Fingerprint of a host launched now.
    pub fingerprint: &'a Fingerprint,
    /// Which hosts may be reused.
    pub reuse: Reuse,
    /// Any text unique to this controller, so that concurrent controllers try the hosts in different orders.
    pub seed: &'a str,
}

/// Orders the hosts that can be reused. `now` is in seconds since the Unix epoch; `life` tells whether a holder is
/// alive.
pub(crate) fn climb(hosts: &[Host], wanted: &Wanted<'_>, now: i64, life: impl Fn(&str) -> Life) -> Ladder {
    let mut ladder = Ladder::default();
    if wanted.reuse == Reuse::Never {
        return ladder;
    }
    for host in hosts.iter().filter(|host| host.role == wanted.role) {
        let Some(rung) = rung(host, now, &life) else { continue };
        match objection(host, rung, wanted, now) {
            Some(why) => ladder.passed_over.push(PassedOver { host: host.name.clone(), why }),
            None => ladder.candidates.push(Candidate { host: host.clone(), rung }),
        }
    }
    ladder.candidates.sort_by_cached_key(|candidate| {
        let place = digest(&SHA256, format!("{} {}", wanted.seed, candidate.host.id).as_bytes());
        (candidate.rung, place.as_ref().to_vec())
    });
    ladder
}

/// How a host can be reused; `None` if it is in use or being worked on.
fn rung(host: &Host, now: i64, life: &impl Fn(&str) -> Life) -> Option<Rung> {
    match host.usage.standing {
        Standing::Used => None,
        Standing::Launched | Standing::Claimed => is_abandoned(host, now, life).then_some(Rung::Unfinished),
        Standing::Idle if host.state == HostState::Running => Some(Rung::Running),
        Standing::Idle => Some(Rung::Stopped),
    }
}

/// Whether the process that worked on a host is dead, or, on another machine, has been silent for longer than any apply
/// takes.
pub(crate) fn is_abandoned(host: &Host, now: i64, life: &impl Fn(&str) -> Life) -> bool {
    let silent = lease::unsettled(host.launched_at) <= now
        && (host.usage.lease_until == 0 || lease::is_over(host.usage.lease_until, now));
    match life(&host.usage.holder) {
        Life::Alive => false,
        Life::Dead => true,
        Life::Elsewhere => silent,
    }
}

fn objection(host: &Host, rung: Rung, wanted: &Wanted<'_>, now: i64) -> Option<String> {
    let expired = host.launched_at.saturating_add_unsigned(document::LIFETIME.as_secs()) <= now;
    if !host.enrolled() && expired {
        return Some("was never enrolled in time: `ctl gc --yes` deletes it".to_owned());
    }
    if let Some(original) = &host.clone_of {
        return Some(format!("is a clone of {original}"));
    }
    let differences = differences(&host.fingerprint, wanted.fingerprint);
    if !differences.is_empty() {
        return Some(differences.join(", "));
    }
    let stopped = rung == Rung::Stopped && wanted.reuse == Reuse::Running;
    stopped.then(|| "is stopped, and only running hosts may be reused".to_owned())
}

/// The settings that differ from the wanted ones.
pub(crate) fn differences(found: &Fingerprint, wanted: &Fingerprint) -> Vec<String> {
    let mut keys: Vec<&String> = found.keys().chain(wanted.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .filter_map(|key| match (found.get(key), wanted.get(key)) {
            (found, wanted) if found == wanted => None,
            (Some(found), Some(wanted)) => {
                let (found, wanted) = told_apart(key, found, wanted);
                Some(format!("{key} is {found}, wanted {wanted}"))
            }
            (Some(found), None) => Some(format!("{key} is {}, wanted none", in_words(key, found))),
            (None, Some(wanted)) => Some(format!("{key} is not set, wanted {}", in_words(key, wanted))),
            (None, None) => None,
        })
        .collect()
}

/// Two values of a setting in words, or as they are if the words are the same.
fn told_apart(key: &str, found: &str, wanted: &str) -> (String, String) {
    let words = (in_words(key, found), in_words(key, wanted));
    if words.0 == words.1 { (found.to_owned(), wanted.to_owned()) } else { words }
}

/// A value of a setting: memory limits are stored in bytes.
fn in_words(key: &str, value: &str) -> String {
    match value.parse::<u64>() {
        Ok(bytes) if key == "memory" => size(bytes),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::provider::{ImageId, Kind, Usage};

    pub(crate) const NOW: i64 = 1_800_000_000;

    /// A free running host of role db.
    pub(crate) fn idle(name: &str) -> Host {
        Host {
            tid: format!("tid-{name}"),
            address: "10.0.0.2".into(),
            image: ImageId("i".into()),
            launched_at: NOW - 600,
            fingerprint: [("image".to_owned(), "i".to_owned())].into(),
            usage: Usage { standing: Standing::Idle, ..Usage::default() },
            ..Host::example(Kind::Local, &format!("l-{name}"), name)
        }
    }

    /// The same, claimed or not yet enrolled, by a holder of this name.
    pub(crate) fn held(name: &str, standing: Standing, holder: &str) -> Host {
        let usage = Usage { standing, holder: holder.into(), ..Usage::default() };
        Host { usage, ..idle(name) }
    }

    pub(crate) fn life(holder: &str) -> Life {
        match holder {
            "dead" => Life::Dead,
            "alive" => Life::Alive,
            _ => Life::Elsewhere,
        }
    }

    fn stopped(name: &str) -> Host {
        Host { state: HostState::Stopped, ..idle(name) }
    }

    fn climbed(hosts: &[Host], reuse: Reuse) -> Ladder {
        let fingerprint = [("image".to_owned(), "i".to_owned())].into();
        climb(hosts, &Wanted { role: "db", fingerprint: &fingerprint, reuse, seed: "s" }, NOW, life)
    }

    fn names(ladder: &Ladder) -> Vec<&str> {
        ladder.candidates.iter().map(|candidate| candidate.host.name.as_str()).collect()
    }

    #[test]
    fn the_unfinished_come_first_then_the_running_then_the_stopped() {
        let all = [stopped("db-1"), idle("db-2"), held("db-3", Standing::Claimed, "dead")];
        let ladder = climbed(&all, Reuse::Stopped);
        assert_eq!(names(&ladder), ["db-3", "db-2", "db-1"]);
        assert_eq!(ladder.candidates[0].rung, Rung::Unfinished);
    }

    #[test]
    fn a_host_in_use_is_not_a_candidate() {
        let other_role = Host { role: "web".into(), ..idle("web-1") };
        let all = [
            held("db-1", Standing::Used, "dead"),
            held("db-2", Standing::Claimed, "alive"),
            held("db-3", Standing::Launched, "elsewhere"),
            other_role,
        ];
        assert_eq!(climbed(&all, Reuse::Stopped), Ladder::default());
    }

    #[test]
    fn a_host_silent_for_too_long_is_abandoned() {
        let old = Host { launched_at: NOW - 9 * 3600, ..held("db-1", Standing::Claimed, "elsewhere") };
        assert_eq!(names(&climbed(std::slice::from_ref(&old), Reuse::Stopped)), ["db-1"]);
        let mut leased = old;
        leased.usage.lease_until = NOW + 60;
        assert_eq!(names(&climbed(&[leased], Reuse::Stopped)), [""; 0]);
    }

    #[test]
    fn a_passed_over_host_is_reported_with_the_difference() {
        let other = Host {
            fingerprint: [("image".to_owned(), "old".to_owned()), ("memory".to_owned(), "1".to_owned())]
                .into(),
            ..idle("db-1")
        };
        let clone = Host { clone_of: Some("db-9".into()), ..idle("db-2") };
        let ladder = climbed(&[other, clone], Reuse::Stopped);
        let told: Vec<_> =
            ladder.passed_over.iter().map(|over| format!("{}: {}", over.host, over.why)).collect();
        assert_eq!(
            told,
            ["db-1: image is old, wanted i, memory is 1 B, wanted none", "db-2: is a clone of db-9"]
        );
        assert!(ladder.candidates.is_empty());
    }

    #[test]
    fn memory_limits_are_told_apart_as_sizes() {
        let told = |found: &str, wanted: &str| {
            let of = |value: &str| Fingerprint::from([("memory".to_owned(), value.to_owned())]);
            differences(&of(found), &of(wanted)).join(", ")
        };
        assert_eq!(told("642777088", "1073741824"), "memory is 613 MiB, wanted 1.0 GiB");
        assert_eq!(told("1073741824", "unlimited"), "memory is 1.0 GiB, wanted unlimited");
        assert_eq!(told("1073741824", "1073741825"), "memory is 1073741824, wanted 1073741825");
    }

    #[test]
    fn a_host_with_an_expired_enrol_document_is_passed_over() {
        let late = Host { launched_at: NOW - 3600, ..held("db-1", Standing::Launched, "dead") };
        let ladder = climbed(&[late], Reuse::Stopped);
        assert!(ladder.candidates.is_empty());
        assert_eq!(ladder.passed_over[0].why, "was never enrolled in time: `ctl gc --yes` deletes it");
    }

    #[test]
    fn reuse_can_be_limited() {
        let all = [stopped("db-1"), idle("db-2")];
        let running = climbed(&all, Reuse::Running);
        assert_eq!((names(&running), running.passed_over.len()), (vec!["db-2"], 1));
        assert_eq!(climbed(&all, Reuse::Never), Ladder::default());
    }

    #[test]
    fn controllers_begin_at_different_hosts() {
        let all: Vec<Host> = (1..=20).map(|n| stopped(&format!("db-{n}"))).collect();
        let fingerprint = all[0].fingerprint.clone();
        let first = |seed: &str| {
            let wanted = Wanted { role: "db", fingerprint: &fingerprint, reuse: Reuse::Stopped, seed };
            climb(&all, &wanted, NOW, life).candidates[0].host.name.clone()
        };
        let firsts: std::collections::BTreeSet<_> = (0..20).map(|seed| first(&seed.to_string())).collect();
        assert!(firsts.len() > 5, "{firsts:?}");
        assert_eq!(first("a"), first("a"));
    }
}
