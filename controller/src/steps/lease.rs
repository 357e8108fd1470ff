//! What becomes of a host's claim, lease and tags when somebody has used it.

use jiff::Timestamp;
use tonic::transport::Channel;

use crate::{
    bundle::Bundle,
    client::claims,
    config::{Lease, RoleConfig},
    context::Context,
    error::{self, Result},
    holder,
    pool::{
        claim::{self, Claimant},
        ladder, lease,
    },
    provider::{Host, Kind, Standing},
};

/// Provisioning is over, however it went: the host is in use, and its lease begins.
pub(crate) async fn settle(
    context: &Context,
    host: &mut Host,
    channel: &Channel,
    claimant: &Claimant,
    bundle: Option<&Bundle>,
) -> Result<()> {
    let role = settings(context, host);
    match claim::settle(channel, host, claimant, &role).await {
        // The connection may have been lost during the run, which went on.
        Err(error) if error.kind() == error::Kind::Unreachable => {
            let channel = context.connect(host).await?.channel;
            claim::settle(&channel, host, claimant, &role).await?;
        }
        settled => settled?,
    }
    host.usage.standing = Standing::Used;
    host.usage.claim.clone_from(&claimant.id);
    host.usage.holder.clear();
    host.usage.lease_until = lease::end(&role, Timestamp::now().as_second());
    if let Some(bundle) = bundle {
        host.usage.commit = commit(bundle);
        host.usage.bundle = bundle.digest().to_string();
    }
    context.provider(host.provider)?.mark(host).await
}

/// Somebody uses a host: its lease is extended where that is worth a call, and `bundle`, if one was applied, is
/// remembered; `host` is as it was left. A host whose provisioning was broken off is his from now on.
pub(crate) async fn used(
    context: &Context,
    host: &mut Host,
    channel: &Channel,
    bundle: Option<&Bundle>,
) -> Result<()> {
    let now = Timestamp::now().as_second();
    if !matches!(host.usage.standing, Standing::Used | Standing::Idle) {
        if !ladder::is_abandoned(host, now, &holder::life) {
            return Ok(());
        }
        let claimant = Claimant::of_this_process()?;
        host.usage.owner = context.user_name()?;
        return settle(context, host, channel, &claimant, bundle).await;
    }
    let until = lease::extended(&settings(context, host), host.usage.lease_until, now);
    if let Some(until) = until {
        let until = claim::until_unix_ms(until);
        match claims::extend(channel.clone(), &host.name, until).await {
            Err(error) if error.kind() == error::Kind::Unreachable => {
                claims::extend(context.connect(host).await?.channel, &host.name, until).await?;
            }
            extended => extended?,
        }
    }
    let applied = bundle.map(|bundle| (commit(bundle), bundle.digest().to_string()));
    let applied =
        applied.filter(|applied| (&applied.0, &applied.1) != (&host.usage.commit, &host.usage.bundle));
    if until.is_none() && applied.is_none() {
        return Ok(());
    }
    // It may have been given back, or have become somebody else's, while it was used.
    let provider = context.provider(host.provider)?;
    let hosts = provider.hosts(context.fleet.id()).await?;
    let Some(present) = hosts.into_iter().find(|present| present.id == host.id) else { return Ok(()) };
    host.usage = present.usage;
    host.usage.lease_until = until.unwrap_or(host.usage.lease_until);
    if let Some((commit, bundle)) = applied {
        (host.usage.commit, host.usage.bundle) = (commit, bundle);
    }
    provider.mark(host).await
}

/// The settings that a host's lease is from: an adopted machine is nobody's to stop.
fn settings(context: &Context, host: &Host) -> RoleConfig {
    let role = context.config.role(&host.role).cloned().unwrap_or_default();
    match host.provider {
        Kind::Ssh => RoleConfig { lease: Some(Lease::Unlimited), stop_after_lease: None, ..role },
        _ => role,
    }
}

/// The commit that a bundle was made of, with a `+` if the tree was not as committed; empty if it is not in git.
pub(crate) fn commit(bundle: &Bundle) -> String {
    let provenance = bundle.provenance();
    let dirty = if provenance.dirty.is_empty() { "" } else { "+" };
    provenance.commit.get(..12).map(|commit| format!("{commit}{dirty}")).unwrap_or_default()
}
