//! Claims: how controllers that want the same host agree on its owner.
//!
//! A claim is a compare-and-swap register on the host, behind mutual TLS. A controller gets the claim if the host is
//! free, if the present claim has lapsed, or if it is still the claim that the controller read in the tags; any other
//! controller gets an error with the holder. A claim is *settled* when provisioning is over. Until then it can lapse,
//! and a controller on the same machine takes it over at once if the holding process is dead.

use jiff::Timestamp;
use proto::pb;
use tonic::transport::Channel;

use super::lease::{self, UNSETTLED};
use crate::{
    client::claims::{self, Answer},
    config::RoleConfig,
    error::{Error, Kind, Result},
    holder::{self, Life},
    pki,
    provider::Host,
};

/// The end of an unlimited lease, as sent to hosts: the last second of the year 9999, in ms since the Unix epoch.
const NEVER_MS: i64 = 253_402_300_799_000;

/// The identity that a controller claims a host with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claimant {
    /// Id of the claim; unique to each host.
    pub id: String,
    /// This process, from [`holder::this_process`].
    pub holder: String,
}

impl Claimant {
    /// A new claim for this process.
    ///
    /// # Errors
    /// The system has no random numbers, or /proc cannot be read.
    pub(crate) fn of_this_process() -> Result<Self> {
        Ok(Self { id: pki::new_tid()?, holder: holder::this_process()? })
    }
}

/// Claims a host while it is provisioned; `Err(claim)` if another controller holds it.
///
/// # Errors
/// The host cannot be reached, or rejects our certificate or role.
pub(crate) async fn take(
    channel: &Channel,
    host: &Host,
    claimant: &Claimant,
) -> Result<std::result::Result<(), pb::Claim>> {
    let until = Timestamp::now().as_millisecond() + i64::try_from(UNSETTLED.as_millis()).unwrap_or(i64::MAX);
    let mut request = pb::ClaimRequest {
        id: claimant.id.clone(),
        holder: claimant.holder.clone(),
        until_unix_ms: until,
        replaces: host.usage.claim.clone(),
        ..pb::ClaimRequest::default()
    };
    let held = match claims::claim(channel.clone(), &host.name, request.clone()).await? {
        Answer::Granted(_) => return Ok(Ok(())),
        Answer::Held(held) => held,
    };
    if held.settled || holder::life(&held.holder) != Life::Dead {
        return Ok(Err(held));
    }
    request.replaces = held.id;
    Ok(match claims::claim(channel.clone(), &host.name, request).await? {
        Answer::Granted(_) => Ok(()),
        Answer::Held(held) => Err(held),
    })
}

/// Settles the claim after provisioning: the host is in use until it is released, and its lease begins.
///
/// # Errors
/// Someone else has claimed the host meanwhile, or the host cannot be reached.
pub(crate) async fn settle(
    channel: &Channel,
    host: &Host,
    claimant: &Claimant,
    role: &RoleConfig,
) -> Result<()> {
    let until = lease::end(role, Timestamp::now().as_second());
    let request = pb::ClaimRequest {
        id: claimant.id.clone(),
        holder: claimant.holder.clone(),
        until_unix_ms: until_unix_ms(until),
        settled: true,
        stop_after_s: role.stop_after_lease.map_or(0, |time| time.as_secs()),
        // The host's present claim as far as known; ignored if it is this one.
        replaces: host.usage.claim.clone(),
    };
    match claims::claim(channel.clone(), &host.name, request).await? {
        Answer::Granted(_) => Ok(()),
        Answer::Held(held) => Err(taken(host, &held)),
    }
}

/// Whether a claim is in force. A settled claim is; an unsettled claim is until its end, unless its holder is dead.
pub(crate) fn stands(claim: &pb::Claim, now_unix_ms: i64, life: impl Fn(&str) -> Life) -> bool {
    claim.settled || (claim.until_unix_ms >= now_unix_ms && life(&claim.holder) != Life::Dead)
}

/// The end of a lease in ms, as sent to hosts; `until` is in seconds since the Unix epoch, 0 if unlimited.
pub(crate) fn until_unix_ms(until: i64) -> i64 {
    if until == 0 { NEVER_MS } else { until.saturating_mul(1_000) }
}

/// The error when someone else has claimed the host.
pub(crate) fn taken(host: &Host, held: &pb::Claim) -> Error {
    let since = Timestamp::from_millisecond(held.taken_unix_ms).unwrap_or_default();
    Error::new(Kind::Busy, format!("{} was claimed by {} at {since:.0}", host.name, held.user))
        .hint(format!("`ctl release --force {}` releases it anyway", host.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_stands_until_it_lapses_or_its_holder_dies() {
        let life = |holder: &str| if holder == "dead" { Life::Dead } else { Life::Elsewhere };
        let claim = |settled, holder: &str| pb::Claim {
            settled,
            holder: holder.into(),
            until_unix_ms: 1_000,
            ..pb::Claim::default()
        };
        assert!(stands(&claim(false, "elsewhere"), 1_000, life));
        assert!(!stands(&claim(false, "elsewhere"), 1_001, life));
        assert!(!stands(&claim(false, "dead"), 1_000, life));
        assert!(stands(&claim(true, "dead"), 9_000, life), "in use until it is released");
    }
}
