//! Claiming, extending and releasing a host. The host decides between controllers, one request at a time.

use prost::Message;
use proto::pb::{self, host_client::HostClient};
use tonic::{Code, Status, transport::Channel};

use super::status::{self, ANSWER, within};
use crate::error::{Error, Result};

/// A host's answer to a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The claim was granted.
    Granted(pb::Claim),
    /// Someone else holds this claim.
    Held(pb::Claim),
}

/// The present claim of a host.
#[derive(Debug)]
pub enum Present {
    /// The host has no claim.
    Nobody,
    /// The host has a claim, which may have lapsed.
    Held(pb::Claim),
    /// The host accepted the call but could not answer, and why.
    Unknown(Error),
}

/// Asks who has claimed the host, with a call that needs the right to change the claim: it extends the lease to a past
/// time, which changes nothing.
///
/// # Errors
/// The host rejects our certificate or role.
pub async fn present(channel: Channel, host_name: &str) -> Result<Present> {
    let request = pb::ExtendRequest { until_unix_ms: 0 };
    match within(ANSWER, HostClient::new(channel).extend(request)).await {
        Ok(claim) => Ok(Present::Held(claim)),
        Err(refused) => match refused.code() {
            Code::FailedPrecondition => Ok(Present::Nobody),
            Code::PermissionDenied | Code::Unauthenticated => Err(status::error(host_name, &refused)),
            _ => Ok(Present::Unknown(status::error(host_name, &refused))),
        },
    }
}

/// Claims the host, or changes our own claim.
///
/// # Errors
/// The host cannot be reached, or rejects our certificate or role.
pub async fn claim(channel: Channel, host_name: &str, request: pb::ClaimRequest) -> Result<Answer> {
    match within(ANSWER, HostClient::new(channel).claim(request)).await {
        Ok(granted) => Ok(Answer::Granted(granted)),
        Err(refused) => match holder(&refused) {
            Some(holder) => Ok(Answer::Held(holder)),
            None => Err(status::error(host_name, &refused)),
        },
    }
}

/// Releases the host if its claim still is `id`, or any claim if `id` is empty; `Err(claim)` if the claim is a
/// different one.
///
/// # Errors
/// The host cannot be reached, or rejects our certificate or role.
pub async fn release(
    channel: Channel,
    host_name: &str,
    id: &str,
) -> Result<std::result::Result<(), pb::Claim>> {
    let request = pb::ReleaseRequest { id: id.to_owned() };
    match within(ANSWER, HostClient::new(channel).release(request)).await {
        Ok(_) => Ok(Ok(())),
        Err(refused) => match holder(&refused) {
            Some(holder) => Ok(Err(holder)),
            None => Err(status::error(host_name, &refused)),
        },
    }
}

/// Extends the host's lease, if the host is claimed.
///
/// # Errors
/// The host cannot be reached, or rejects our certificate or role.
pub async fn extend(channel: Channel, host_name: &str, until_unix_ms: i64) -> Result<()> {
    let request = pb::ExtendRequest { until_unix_ms };
    match within(ANSWER, HostClient::new(channel).extend(request)).await {
        Err(refused) if refused.code() != Code::FailedPrecondition => Err(status::error(host_name, &refused)),
        _ => Ok(()),
    }
}

fn holder(status: &Status) -> Option<pb::Claim> {
    if status.code() != Code::FailedPrecondition || status.details().is_empty() {
        return None;
    }
    pb::Claim::decode(status.details()).ok()
}
