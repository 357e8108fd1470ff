//! EC2 is eventually consistent: for a while after the launch, some calls do not know a new instance. These functions
//! wait for that.

use std::time::{Duration, SystemTime};

use aws_sdk_ec2::types::Instance;

use super::{cloud::Region, failure::Failure, inner::Inner, instance};
use crate::{
    error::{Error, Result},
    pauses::Pauses,
    provider::Host,
};

/// Longest time after a launch until all EC2 calls know the instance.
pub(super) const SETTLED: Duration = Duration::from_secs(60);

/// Result of a call.
pub(super) type Outcome = std::result::Result<(), Failure>;

/// Pauses between polls of something that takes seconds to a minute.
pub(super) fn pauses() -> Pauses {
    Pauses::new(Duration::from_secs(1), Duration::from_secs(10))
}

impl Inner {
    /// Current state of an instance; `None` if EC2 does not know it.
    pub(super) async fn describe(&self, region: &Region, id: &str) -> Result<Option<Instance>> {
        match region.client.describe_instances().instance_ids(id).send().await.map_err(Failure::from) {
            Ok(reply) => {
                let reservations = reply.reservations.unwrap_or_default().into_iter();
                Ok(reservations.flat_map(|reservation| reservation.instances.unwrap_or_default()).next())
            }
            Err(failure) if failure.is_not_found() => Ok(None),
            Err(failure) => Err(region.explain("DescribeInstances", &failure)),
        }
    }

    /// Current state of an instance that must not have ended. Waits while EC2 does not know a new instance yet.
    pub(super) async fn alive(&self, region: &Region, host: &Host) -> Result<Instance> {
        let mut pauses = pauses();
        loop {
            match self.describe(region, &host.id).await? {
                Some(found) if instance::state(&found).is_some() => return Ok(found),
                None if is_new(host) => pauses.pause().await,
                found => {
                    let why =
                        found.as_ref().map_or_else(|| "EC2 does not know it".to_owned(), instance::reason);
                    return Err(Error::unreachable(format!("{} is gone: {why}", host.name)));
                }
            }
        }
    }
}

/// Whether some EC2 calls may not know the host yet.
fn is_new(host: &Host) -> bool {
    let launched = Duration::from_secs(u64::try_from(host.launched_at).unwrap_or_default());
    (SystemTime::UNIX_EPOCH + launched).elapsed().unwrap_or_default() < SETTLED
}

/// Whether a call was refused because EC2 does not know the host yet, or because of the host's current state.
pub(super) fn is_early(host: &Host, failure: &Failure) -> bool {
    failure.is_state() || (failure.is_not_found() && is_new(host))
}

/// Retries a call while it does not know a new instance yet.
pub(super) async fn known<F: Future<Output = Outcome>>(host: &Host, mut call: impl FnMut() -> F) -> Outcome {
    let mut pauses = pauses();
    loop {
        match call().await {
            Err(failure) if failure.is_not_found() && is_new(host) => pauses.pause().await,
            other => return other,
        }
    }
}
