//! Taking a host and giving it back: the host decides between controllers, one at a time.

use prost::Message;
use proto::pb::{self, host_client::HostClient};
use tonic::{Code, Status, transport::Channel};

use super::status::{self, ANSWER, within};
use crate::error::{Error, Result};

/// What the host says to somebody who wants it.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It is his.
    Granted(pb::Claim),
    /// Somebody else has it.
    Held(pb::Claim),
}

/// What the host knows of who has it.
#[derive(Debug)]
pub enum Present {
    /// Nobody has it.
    Nobody,
    /// It has a claim, be it that this has lapsed.
    Held(pb::Claim),
    /// It cannot say; the call was let through.
    Unknown(Error),
}

/// Asks who has the host, as only those may who may change that: a lease is extended to a time that is past,
/// which changes nothing.
///
/// # Errors
/// The host refuses us.
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

/// Asks for the host, or changes the claim that one has.
///
/// # Errors
/// The host cannot be asked, or refuses us.
pub async fn claim(channel: Channel, host_name: &str, request: pb::ClaimRequest) -> Result<Answer> {
    match within(ANSWER, HostClient::new(channel).claim(request)).await {
        Ok(granted) => Ok(Answer::Granted(granted)),
        Err(refused) => match holder(&refused) {
            Some(holder) => Ok(Answer::Held(holder)),
            None => Err(status::error(host_name, &refused)),
        },
    }
}

/// Gives the host back if its claim still is `id`, or whichever it is if that is empty; `Err(claim)` if it is another.
///
/// # Errors
/// The host cannot be asked, or refuses us.
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

/// Moves the end of the host's lease out, if anybody has it.
///
/// # Errors
/// The host cannot be asked, or refuses us.
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
