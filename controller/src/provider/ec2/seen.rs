//! What EC2 has shown of a fleet, for the next launch to need no other look.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_ec2::types::Instance;

use super::{
    attempts::{self, Attempt},
    instance, tags,
};
use crate::provider::Launch;

/// What the last listing showed, and what was launched since.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Instances by transaction.
    pub(super) instances: HashMap<String, String>,
    /// Hosts in a subnet.
    subnets: BTreeMap<String, usize>,
}

impl Seen {
    /// Takes a listing instead of what was known.
    pub(super) fn replace(&mut self, instances: &[Instance]) {
        *self = Self::default();
        for instance in instances {
            let tags = instance::tags_of(instance.tags());
            if let (Some(tid), Some(id)) = (tags.get(tags::TID), instance.instance_id()) {
                self.instances.insert(tid.clone(), id.to_owned());
            }
            if let Some(subnet) = instance.subnet_id() {
                *self.subnets.entry(subnet.to_owned()).or_default() += 1;
            }
        }
    }

    /// The order of attempts; the subnet of the first counts as taken from now on.
    pub(super) fn attempts(&mut self, launch: &Launch) -> Vec<Attempt> {
        let attempts = attempts::order(&launch.settings.ec2, &self.subnets);
        if let Some(subnet) = attempts.first().and_then(|first| first.subnet.clone()) {
            *self.subnets.entry(subnet).or_default() += 1;
        }
        attempts
    }
}
