//! `ctl hosts`, `start`, `stop`, `destroy`: the verbs that only the provider answers.

use std::sync::Arc;

use super::{adopt, usage};
use crate::{
    context::Context,
    error::Result,
    fanout,
    provider::{Host, Kind},
    render::{Output, table},
};

/// `ctl hosts`
pub(super) async fn hosts(context: &Context, all: bool, output: &Output) -> Result<()> {
    let hosts = context.list(all).await?;
    table::hosts(output, &hosts, jiff::Timestamp::now())
}

/// `ctl start HOST…`
pub(super) async fn start(context: Arc<Context>, names: &[String], output: &Output) -> Result<()> {
    let hosts = context.named(names).await?;
    let results = fanout::each(hosts, |host| {
        let context = Arc::clone(&context);
        async move {
            let mut host = context.provider(host.provider)?.start(&host).await?;
            let channel = context.connect_after_boot(&host).await?.channel;
            usage::used(&context, &mut host, &channel, None).await
        }
    });
    said(results.await, "started", output)
}

/// `ctl stop HOST…`
pub(super) async fn stop(context: Arc<Context>, names: &[String], output: &Output) -> Result<()> {
    let hosts = context.named(names).await?;
    let results = fanout::each(hosts, |host| {
        let context = Arc::clone(&context);
        async move { context.provider(host.provider)?.stop(&host).await }
    });
    said(results.await, "stopped", output)
}

/// `ctl destroy HOST…`; adopted machines go on without agent, or with it if they are to be forgotten only.
pub(super) async fn destroy(
    context: Arc<Context>,
    names: &[String],
    forget: bool,
    output: &Output,
) -> Result<()> {
    let hosts = context.named(names).await?;
    let results = fanout::each(hosts, |host| {
        let context = Arc::clone(&context);
        async move {
            if host.provider == Kind::Ssh && !forget {
                adopt::leave(&context, &host).await?;
            }
            context.provider(host.provider)?.destroy(&host).await
        }
    });
    said(results.await, "destroyed", output)
}

/// Says of each host that it is done, and sums up the failures.
pub(super) fn said(results: Vec<(Host, Result<()>)>, done: &str, output: &Output) -> Result<()> {
    for (host, result) in &results {
        if result.is_ok() {
            output.note(&format!("{} {done}", host.name));
        }
    }
    let failures = results.into_iter().filter_map(|(host, result)| Some((host, result.err()?))).collect();
    fanout::sum(failures)
}
