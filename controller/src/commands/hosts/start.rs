//! `ctl start`: boots stopped hosts, or does nothing to those that run.

use std::sync::Arc;

use super::said;
use crate::{
    context::Context,
    error::Result,
    fanout,
    provider::HostState,
    render::Output,
    steps::{consent, lease},
};

/// `ctl start HOST…`; as with `apply`, it does not matter whose a host is.
pub(in crate::commands) async fn start(
    context: Arc<Context>,
    names: &[String],
    output: &Output,
) -> Result<()> {
    let hosts = context.named(names).await?;
    consent::operator(&context, "start")?;
    let results = fanout::each(hosts, |host| {
        let context = Arc::clone(&context);
        async move {
            let ran = host.state == HostState::Running;
            let mut host = context.provider(host.provider)?.start(&host).await?;
            let channel = context.connect_after_boot(&host).await?.channel;
            lease::used(&context, &mut host, &channel, None).await?;
            Ok(if ran { "runs already" } else { "started" })
        }
    });
    said(results.await, output)
}
