//! The ways to launch a host, and their order while EC2 lacks capacity.

use std::{collections::BTreeMap, fmt};

use super::failure::Shortage;
use crate::config::{Ec2Role, Spot, SpotElse};

/// One way to launch a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// Position in the order; part of the client token.
    pub(super) number: usize,
    pub(super) instance_type: String,
    /// `None` for a subnet of the default VPC.
    pub(super) subnet: Option<String>,
    pub(super) spot: bool,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.instance_type)?;
        if let Some(subnet) = &self.subnet {
            write!(f, " in {subnet}")?;
        }
        if self.spot { f.write_str(" (spot)") } else { Ok(()) }
    }
}

/// All attempts, best first: cheaper market first, then instance types in the configured order, then the subnets
/// with the fewest hosts.
pub(super) fn order(settings: &Ec2Role, hosts_in: &BTreeMap<String, usize>) -> Vec<Attempt> {
    let markets: &[bool] = match settings.spot {
        None | Some(Spot::Only(false)) => &[false],
        Some(Spot::Only(true)) => &[true],
        Some(Spot::Else(SpotElse::Fallback)) => &[true, false],
    };
    let mut subnets: Vec<Option<&String>> = settings.subnets.iter().flatten().map(Some).collect();
    // Stable: subnets with equally many hosts keep the configured order.
    subnets.sort_by_key(|subnet| subnet.and_then(|subnet| hosts_in.get(subnet)).copied().unwrap_or_default());
    if subnets.is_empty() {
        subnets.push(None);
    }
    let mut attempts = Vec::new();
    for &spot in markets {
        for instance_type in settings.instance_types() {
            for subnet in &subnets {
                attempts.push(Attempt {
                    number: attempts.len(),
                    instance_type: instance_type.to_owned(),
                    subnet: subnet.cloned(),
                    spot,
                });
            }
        }
    }
    attempts
}

/// Whether `next` may succeed after `failed` was refused because of `shortage`.
pub(super) fn may_do_better(failed: &Attempt, shortage: Shortage, next: &Attempt) -> bool {
    match shortage {
        Shortage::Here => true,
        Shortage::Market => failed.spot != next.spot,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OneOrMore;

    fn settings(spot: Option<Spot>) -> Ec2Role {
        Ec2Role {
            instance_type: Some(OneOrMore::More(vec!["a.x".into(), "b.x".into()])),
            subnets: Some(vec!["s1".into(), "s2".into()]),
            spot,
            ..Ec2Role::default()
        }
    }

    fn told(attempts: &[Attempt]) -> Vec<String> {
        attempts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_emptier_subnet_comes_first() {
        let hosts_in = BTreeMap::from([("s1".to_owned(), 2), ("s2".to_owned(), 1)]);
        let attempts = order(&settings(None), &hosts_in);
        assert_eq!(told(&attempts), ["a.x in s2", "a.x in s1", "b.x in s2", "b.x in s1"]);
        assert_eq!(attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let attempts = order(&settings(None), &BTreeMap::new());
        assert_eq!(told(&attempts)[..2], ["a.x in s1", "a.x in s2"]);
    }

    #[test]
    fn demand_comes_after_all_of_spot() {
        let attempts = order(&settings(Some(Spot::Else(SpotElse::Fallback))), &BTreeMap::new());
        assert_eq!((attempts.len(), attempts[3].spot, attempts[4].spot), (8, true, false));
        assert_eq!(attempts[0].to_string(), "a.x in s1 (spot)");
        assert!(
            order(&settings(Some(Spot::Only(true))), &BTreeMap::new()).iter().all(|attempt| attempt.spot)
        );
    }

    #[test]
    fn without_settings_there_is_one_way() {
        assert_eq!(told(&order(&Ec2Role::default(), &BTreeMap::new())), ["t3.small"]);
    }

    #[test]
    fn a_market_that_is_shut_is_left() {
        let attempts = order(&settings(Some(Spot::Else(SpotElse::Fallback))), &BTreeMap::new());
        assert!(!may_do_better(&attempts[0], Shortage::Market, &attempts[1]));
        assert!(may_do_better(&attempts[0], Shortage::Market, &attempts[4]));
        assert!(may_do_better(&attempts[0], Shortage::Here, &attempts[1]));
    }
}
