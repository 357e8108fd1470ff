//! Plans what `ctl gc` cleans up: a pure function of the provider's list of hosts.

use std::collections::BTreeMap;

use super::{ladder::is_abandoned, lease};
use crate::{
    holder::Life,
    provider::{Host, HostState, Kind, Standing},
};

/// What to do with a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Shut it down and keep its disk; it stays idle or in use.
    Stop,
    /// Shut it down and return it to the pool.
    Release,
    /// Delete it.
    Destroy,
}

impl Action {
    /// The verb, and its past participle.
    pub(crate) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Stop => ("stop", "stopped"),
            Self::Release => ("release", "released"),
            Self::Destroy => ("destroy", "destroyed"),
        }
    }
}

/// One host, what to do with it, and why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    /// The host.
    pub host: Host,
    /// What to do.
    pub action: Action,
    /// Why, in a sentence without subject.
    pub why: String,
}

/// Finds unfinished hosts, duplicates, and hosts whose lease has expired. `now` is in seconds since the Unix epoch.
pub(crate) fn plan(hosts: &[Host], now: i64, life: impl Fn(&str) -> Life) -> Vec<Step> {
    let firsts = firsts(hosts);
    hosts
        .iter()
        .filter_map(|host| {
            let first = firsts.get(host.tid.as_str()).copied().unwrap_or(host);
            let (action, why) = verdict(host, first, now, &life)?;
            Some(Step { host: host.clone(), action, why })
        })
        .collect()
}

/// For each launch, the host to keep: enrolled hosts first, then the oldest.
fn firsts(hosts: &[Host]) -> BTreeMap<&str, &Host> {
    let mut firsts: BTreeMap<&str, &Host> = BTreeMap::new();
    let place = |host: &Host| (!host.enrolled(), host.launched_at, host.id.clone());
    for host in hosts {
        let kept = firsts.entry(&host.tid).or_insert(host);
        if place(host) < place(kept) {
            *kept = host;
        }
    }
    firsts
}

fn verdict(host: &Host, first: &Host, now: i64, life: &impl Fn(&str) -> Life) -> Option<(Action, String)> {
    // Adopted machines are never stopped or deleted.
    if host.provider == Kind::Ssh {
        return None;
    }
    if first.id != host.id {
        return Some((
            Action::Destroy,
            format!("is a duplicate: the same launch created {} ({})", first.name, first.id),
        ));
    }
    let usage = &host.usage;
    match usage.standing {
        Standing::Launched if is_abandoned(host, now, life) => {
            Some((Action::Destroy, "was launched but never enrolled".to_owned()))
        }
        Standing::Claimed if is_abandoned(host, now, life) => {
            Some((Action::Release, format!("was claimed by {} but never finished", usage.owner)))
        }
        Standing::Used | Standing::Idle if lease::is_over(usage.lease_until, now) => {
            let action = if host.state == HostState::Running { Action::Stop } else { Action::Destroy };
            Some((action, format!("its lease has expired; last owner: {}", usage.owner)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::ladder::tests::{NOW, held, idle, life},
        *,
    };
    use crate::provider::Usage;

    fn used(name: &str, lease_until: i64) -> Host {
        let usage = Usage { standing: Standing::Used, owner: "ada".into(), lease_until, ..Usage::default() };
        Host { usage, ..idle(name) }
    }

    fn told(hosts: &[Host]) -> Vec<String> {
        let line = |step: Step| format!("{} {}: {}", step.action.words().0, step.host.name, step.why);
        plan(hosts, NOW, life).into_iter().map(line).collect()
    }

    #[test]
    fn what_is_in_use_stays() {
        let all =
            [used("db-1", NOW + 1), used("db-2", 0), idle("db-3"), held("db-4", Standing::Claimed, "alive")];
        assert_eq!(told(&all), [""; 0]);
    }

    #[test]
    fn adopted_machines_are_left_alone() {
        assert_eq!(told(&[Host { provider: Kind::Ssh, ..used("db-1", NOW - 1) }]), [""; 0]);
    }

    #[test]
    fn unfinished_hosts_are_cleaned_up() {
        let all = [held("db-1", Standing::Launched, "dead"), held("db-2", Standing::Claimed, "dead")];
        assert_eq!(
            told(&all),
            [
                "destroy db-1: was launched but never enrolled",
                "release db-2: was claimed by  but never finished"
            ]
        );
    }

    #[test]
    fn an_expired_lease_stops_first_and_destroys_later() {
        let stopped = Host { state: HostState::Stopped, ..used("db-2", NOW - 1) };
        assert_eq!(
            told(&[used("db-1", NOW), stopped]),
            [
                "stop db-1: its lease has expired; last owner: ada",
                "destroy db-2: its lease has expired; last owner: ada"
            ]
        );
    }

    #[test]
    fn of_duplicates_the_enrolled_or_older_host_stays() {
        let twin = |name: &str, launched_at, host: Host| Host {
            tid: "t".into(),
            name: name.into(),
            id: name.into(),
            launched_at,
            ..host
        };
        let all = [
            twin("db-1", NOW - 20, held("", Standing::Launched, "alive")),
            twin("db-2", NOW - 10, used("", 0)),
        ];
        assert_eq!(told(&all), ["destroy db-1: is a duplicate: the same launch created db-2 (db-2)"]);
        let all = [twin("db-1", NOW - 10, used("", 0)), twin("db-2", NOW - 20, used("", 0))];
        assert_eq!(told(&all), ["destroy db-1: is a duplicate: the same launch created db-2 (db-2)"]);
    }
}
