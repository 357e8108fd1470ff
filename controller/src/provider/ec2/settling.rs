//! EC2's parts learn of a change one after another: for a while after its launch, some do not know an instance yet. Here is
//! how long, and how that is waited for.

use std::time::{Duration, SystemTime};

use aws_sdk_ec2::types::Instance;

use super::{cloud::Region, failure::Failure, inner::Inner, instance};
use crate::{
    error::{Error, Result},
    pauses::Pauses,
    provider::Host,
};

/// EC2's parts know of a new instance so long after it was launched, at the latest.
pub(super) const SETTLED: Duration = Duration::from_secs(60);

/// What a call came to.
pub(super) type Outcome = std::result::Result<(), Failure>;

/// Looks at something that takes seconds to a minute.
pub(super) fn pauses() -> Pauses {
    Pauses::new(Duration::from_secs(1), Duration::from_secs(10))
}

impl Inner {
    /// An instance as it is now; `None` if EC2 does not know it.
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

    /// An instance as it is now; that it has ended is an error. One that EC2 does not know yet is waited for.
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

/// Whether some part of EC2 may not know the host yet.
fn is_new(host: &Host) -> bool {
    let launched = Duration::from_secs(u64::try_from(host.launched_at).unwrap_or_default());
    (SystemTime::UNIX_EPOCH + launched).elapsed().unwrap_or_default() < SETTLED
}

/// Whether a call was refused because the host is not there, or not as far, yet.
pub(super) fn is_early(host: &Host, failure: &Failure) -> bool {
    failure.is_state() || (failure.is_not_found() && is_new(host))
}

/// Repeats a call that does not know a new instance yet.
pub(super) async fn known<F: Future<Output = Outcome>>(host: &Host, mut call: impl FnMut() -> F) -> Outcome {
    let mut pauses = pauses();
    loop {
        match call().await {
            Err(failure) if failure.is_not_found() && is_new(host) => pauses.pause().await,
            other => return other,
        }
    }
}
