//! Cache of the last listing, so that the next launch needs no other one.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_ec2::types::Instance;

use super::{
    attempts::{self, Attempt},
    instance, tags,
};
use crate::provider::Launch;

/// The last listing, and the launches since.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Instance ids by enrolment transaction id.
    pub(super) instances: HashMap<String, String>,
    /// Number of hosts in each subnet.
    subnets: BTreeMap<String, usize>,
}

impl Seen {
    /// Replaces the cache by a new listing.
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

    /// The attempts for a launch, in order. Counts one more host in the subnet of the first attempt.
    pub(super) fn attempts(&mut self, launch: &Launch) -> Vec<Attempt> {
        let attempts = attempts::order(&launch.settings.ec2, &self.subnets);
        if let Some(subnet) = attempts.first().and_then(|first| first.subnet.clone()) {
            *self.subnets.entry(subnet).or_default() += 1;
        }
        attempts
    }
}
