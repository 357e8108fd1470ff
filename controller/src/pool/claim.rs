//! Claims: how two controllers that want the same host find out who has it.
//!
//! A claim is a compare-and-swap register on the host, behind mutual TLS. Whoever finds it free, lapsed, or still
//! the one that he has read about in the tags, gets it; everybody else is told who has it. A claim is *settled* when provisioning is
//! over; until then it lapses, and a controller on the same machine that sees that the holder is dead takes it over at once.

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

/// The end of a lease that has none, for hosts: the last second of the year 9999.
const NEVER_MS: i64 = 253_402_300_799_000;

/// What a controller shows when it takes a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// Id of the claim; one for each host.
    pub id: String,
    /// This process, from [`holder::this_process`].
    pub holder: String,
}

impl Claimant {
    /// A new claim of this process.
    ///
    /// # Errors
    /// The system has no random numbers, or /proc cannot be read.
    pub fn of_this_process() -> Result<Self> {
        Ok(Self { id: pki::new_tid()?, holder: holder::this_process()? })
    }
}

/// Takes a host for the time that provisioning takes; `None` and who has it if somebody else was quicker.
///
/// # Errors
/// The host cannot be asked, or refuses us.
pub async fn take(
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

/// Says that provisioning is over: the host is in use until it is released, and its lease begins.
///
/// # Errors
/// Somebody else has taken the host meanwhile, or it cannot be asked.
pub async fn settle(channel: &Channel, host: &Host, claimant: &Claimant, role: &RoleConfig) -> Result<()> {
    let until = lease::end(role, Timestamp::now().as_second());
    let request = pb::ClaimRequest {
        id: claimant.id.clone(),
        holder: claimant.holder.clone(),
        until_unix_ms: until_unix_ms(until),
        settled: true,
        stop_after_s: role.stop_after_lease.map_or(0, |time| time.as_secs()),
        // What is known of the host's present claim; nothing if it is this one.
        replaces: host.usage.claim.clone(),
    };
    match claims::claim(channel.clone(), &host.name, request).await? {
        Answer::Granted(_) => Ok(()),
        Answer::Held(held) => Err(taken(host, &held)),
    }
}

/// Whether a claim keeps others off: one that is not settled does so until its end, and while its holder may live.
pub fn stands(claim: &pb::Claim, now_unix_ms: i64, life: impl Fn(&str) -> Life) -> bool {
    claim.settled || (claim.until_unix_ms >= now_unix_ms && life(&claim.holder) != Life::Dead)
}

/// What a host is told for the end of a lease in seconds since the Unix epoch.
pub fn until_unix_ms(until: i64) -> i64 {
    if until == 0 { NEVER_MS } else { until.saturating_mul(1_000) }
}

/// The host is somebody else's.
pub fn taken(host: &Host, held: &pb::Claim) -> Error {
    let since = Timestamp::from_millisecond(held.taken_unix_ms).unwrap_or_default();
    Error::new(Kind::Busy, format!("{} is {}'s since {since:.0}", host.name, held.user))
        .hint(format!("`ctl release --force {}` gives it back, whoever has it", host.name))
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
        assert!(stands(&claim(true, "dead"), 9_000, life), "in use until it is given back");
    }
}
