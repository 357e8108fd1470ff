//! `ctl release`: a host goes back to the pool.

use std::sync::Arc;

use super::machines;
use crate::{
    cli::Release,
    client::claims,
    context::Context,
    error::{Error, Kind, Result},
    fanout,
    provider::{Host, HostState, Kind as ProviderKind, Standing, Usage},
    render::Output,
};

/// `ctl release HOST…`
pub(super) async fn release(context: Arc<Context>, args: &Release, output: &Output) -> Result<()> {
    let hosts = context.named(&args.hosts).await?;
    let user = context.user_name()?;
    if let Some(host) = hosts.iter().find(|host| !args.force && !may_release(host, &user)) {
        let owner = &host.usage.owner;
        return Err(Error::new(Kind::Busy, format!("{} is {owner}'s, not {user}'s", host.name))
            .hint("--force gives it back all the same"));
    }
    let keep_running = args.keep_running;
    let results = fanout::each(hosts, |host| {
        let context = Arc::clone(&context);
        async move { give_back(&context, &host, keep_running).await }
    });
    machines::said(results.await, "released", output)
}

fn may_release(host: &Host, user: &str) -> bool {
    host.usage.standing == Standing::Idle || host.usage.owner.is_empty() || host.usage.owner == user
}

/// The host is told first. One that is stopped learns it from the next claim, which replaces the one in the tags.
pub(super) async fn give_back(context: &Context, host: &Host, keep_running: bool) -> Result<()> {
    let provider = context.provider(host.provider)?;
    if !host.enrolled() {
        return Err(Error::new(Kind::Busy, format!("{} was never enrolled, so nobody has it", host.name))
            .hint(format!("`ctl destroy {}` ends it", host.name)));
    }
    if host.state == HostState::Running {
        let channel = context.connect(host).await?.channel;
        claims::release(channel, &host.name).await?;
    }
    let usage = Usage { standing: Standing::Idle, holder: String::new(), ..host.usage.clone() };
    provider.mark(&Host { usage, ..host.clone() }).await?;
    let stays = keep_running || host.provider == ProviderKind::Ssh;
    if host.state == HostState::Running && !stays {
        provider.stop(host).await?;
    }
    Ok(())
}
