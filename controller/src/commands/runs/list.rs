//! `ctl runs`: recent runs on hosts.

use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::{
    cli::Targets,
    client,
    context::Context,
    error::Result,
    fanout::{self, split},
    render::{Output, table},
};

/// Number of runs listed per host.
const RUNS: u32 = 10;

/// `ctl runs`
pub(in crate::commands) async fn runs(context: Arc<Context>, args: &Targets, output: &Output) -> Result<()> {
    let hosts = context.running(&args.hosts, args.role.as_deref()).await?;
    let results = fanout::each(hosts, |host| {
        let context = Arc::clone(&context);
        async move {
            let channel = context.connect(&host).await?.channel;
            client::runs::list(channel, &host.name, RUNS).await
        }
    });
    let (lists, failures) = split(results.await);
    let runs: Vec<_> = lists
        .into_iter()
        .flat_map(|(host, runs)| runs.into_iter().map(move |run| (host.clone(), run)))
        .collect();
    table::runs(output, &runs, &TimeZone::system())?;
    fanout::sum(failures)
}
