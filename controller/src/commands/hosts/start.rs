//! `ctl start`: boots stopped hosts; running hosts stay as they are.

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

/// `ctl start HOST…`; as with `apply`, the owner of the host does not matter.
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
            Ok(if ran { "is already running" } else { "started" })
        }
    });
    said(results.await, output)
}
