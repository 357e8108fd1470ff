//! `ctl status`: what hosts say of themselves.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    cli::Targets,
    client,
    context::Context,
    error::Result,
    fanout::{self, split},
    render::{Output, table},
};

/// `ctl status`: every host that answers gets a row, the others are the error.
pub(in crate::commands) async fn status(
    context: Arc<Context>,
    args: &Targets,
    output: &Output,
) -> Result<()> {
    let hosts = context.running(&args.hosts, args.role.as_deref()).await?;
    let results = fanout::each(hosts, |host| {
        let context = Arc::clone(&context);
        async move {
            let channel = context.connect(&host).await?.channel;
            let mut reply = client::status::ask(channel, &host.name).await?;
            // A local host cannot see its own kernel's log; its provider counts for it.
            if let Some(kills @ 1..) = context.provider(host.provider)?.oom_kills(&host) {
                reply
                    .degraded
                    .push(format!("processes killed for want of memory since it was booted: {kills}"));
            }
            Ok(reply)
        }
    });
    let (replies, failures) = split(results.await);
    table::status(output, &replies, Timestamp::now())?;
    fanout::sum(failures)
}
