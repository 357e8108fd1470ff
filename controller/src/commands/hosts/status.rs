//! `ctl status`: the status that each host reports.

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

/// `ctl status`: a row for each host that answers; the other hosts are the error.
pub(in crate::commands) async fn status(
    context: Arc<Context>,
    args: &Targets,
    output: &Output,
) -> Result<()> {
    let (hosts, stopped) = context.running_and_stopped(&args.hosts, args.role.as_deref()).await?;
    let results = fanout::each(hosts, |host| {
        let context = Arc::clone(&context);
        async move {
            let channel = context.connect(&host).await?.channel;
            let mut reply = client::status::ask(channel, &host.name).await?;
            // A local host cannot read the kernel log; its provider counts the kills.
            if let Some(kills @ 1..) = context.provider(host.provider)?.oom_kills(&host) {
                reply.degraded.push(format!("out-of-memory kills since boot: {kills}"));
            }
            Ok(reply)
        }
    });
    let (replies, failures) = split(results.await);
    table::status(output, &replies, Timestamp::now())?;
    table::left_out(output, stopped.len());
    fanout::sum(failures)
}
