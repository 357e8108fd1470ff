//! Updates a host's claim, lease and tags when the host is used.

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

/// Settles the claim after provisioning, successful or not: the host is now in use, and its lease begins.
pub(crate) async fn settle(
    context: &Context,
    host: &mut Host,
    channel: &Channel,
    claimant: &Claimant,
    bundle: Option<&Bundle>,
) -> Result<()> {
    let role = settings(context, host);
    match claim::settle(channel, host, claimant, &role).await {
        // The connection may have been lost while the run continued.
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

/// Records a use of a host: extends its lease if that is worth a call, and stores `bundle` if one was applied. A host
/// whose provisioning was abandoned now belongs to the current user.
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
    // The host may have been released or claimed by someone else while it was used: take its current tags.
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

/// The role settings that decide a host's lease. Adopted machines have none: `ctl` must never stop them.
fn settings(context: &Context, host: &Host) -> RoleConfig {
    let role = context.config.role(&host.role).cloned().unwrap_or_default();
    match host.provider {
        Kind::Ssh => RoleConfig { lease: Some(Lease::Unlimited), stop_after_lease: None, ..role },
        _ => role,
    }
}

/// The first 12 digits of the bundle's commit, with a `+` if the tree had uncommitted changes; empty outside git.
pub(crate) fn commit(bundle: &Bundle) -> String {
    let provenance = bundle.provenance();
    let dirty = if provenance.dirty.is_empty() { "" } else { "+" };
    provenance.commit.get(..12).map(|commit| format!("{commit}{dirty}")).unwrap_or_default()
}
