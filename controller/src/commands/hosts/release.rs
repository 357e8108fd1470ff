//! `ctl release`: returns hosts to the pool.

use std::sync::Arc;

use super::said;
use crate::{
    cli::Release,
    client::claims,
    context::Context,
    error::{Error, Kind, Result},
    fanout,
    pool::claim,
    provider::{Host, HostState, Kind as ProviderKind, Standing, Usage},
    render::Output,
    steps::consent,
};

/// `ctl release HOST…`
pub(in crate::commands) async fn release(
    context: Arc<Context>,
    args: &Release,
    output: &Output,
) -> Result<()> {
    let hosts = context.named(&args.hosts).await?;
    let hosts = consent::all(&context, hosts, "release", args.force).await?;
    let (keep_running, force) = (args.keep_running, args.force);
    let results = fanout::each(hosts.into_iter().map(|(host, _)| host).collect(), |host| {
        let context = Arc::clone(&context);
        async move {
            let was = (host.usage.standing == Standing::Idle, host.state);
            give_back(&context, &host, keep_running, force).await?;
            Ok(match was {
                (true, HostState::Running) if !keep_running && host.provider != ProviderKind::Ssh => {
                    "was already free; stopped now"
                }
                (true, _) => "is already free",
                (false, _) => "released",
            })
        }
    });
    said(results.await, output)
}

/// Releases a host if its claim is still the claim in the tags; with `force`, whatever its claim is. The tags mark the
/// host free last, so that no controller claims a host that is about to be stopped. A stopped host keeps its old claim until
/// the next claim replaces it.
pub(in crate::commands) async fn give_back(
    context: &Context,
    host: &Host,
    keep_running: bool,
    force: bool,
) -> Result<()> {
    let provider = context.provider(host.provider)?;
    if !host.enrolled() {
        return Err(Error::new(
            Kind::Busy,
            format!("{} was never enrolled, so there is nothing to release", host.name),
        )
        .hint(format!("`ctl destroy {}` deletes it", host.name)));
    }
    if host.state == HostState::Running {
        let channel = context.connect(host).await?.channel;
        let id = if force { "" } else { host.usage.claim.as_str() };
        if let Err(held) = claims::release(channel, &host.name, id).await? {
            return Err(claim::taken(host, &held));
        }
        if !keep_running && host.provider != ProviderKind::Ssh {
            provider.stop(host).await?;
        }
    }
    let usage = Usage { standing: Standing::Idle, holder: String::new(), ..host.usage.clone() };
    provider.mark(&Host { usage, ..host.clone() }).await
}
