//! `ctl stop`: shuts hosts down and keeps their disks.

use std::sync::Arc;

use super::said;
use crate::{
    cli::Stop, context::Context, error::Result, fanout, provider::HostState, render::Output, steps::consent,
};

/// `ctl stop HOST…`
pub(in crate::commands) async fn stop(context: Arc<Context>, args: &Stop, output: &Output) -> Result<()> {
    let hosts = context.named(&args.hosts).await?;
    let hosts = consent::all(&context, hosts, "stop", args.force).await?;
    let results = fanout::each(hosts.into_iter().map(|(host, _)| host).collect(), |host| {
        let context = Arc::clone(&context);
        async move {
            context.provider(host.provider)?.stop(&host).await?;
            Ok(if host.state == HostState::Stopped { "is already stopped" } else { "stopped" })
        }
    });
    said(results.await, output)
}
