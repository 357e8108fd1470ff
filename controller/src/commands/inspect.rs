//! `ctl status`, `runs`: what hosts say of themselves.

use std::sync::Arc;

use jiff::{Timestamp, tz::TimeZone};

use crate::{
    cli::Targets,
    client,
    context::Context,
    error::{Error, Result},
    fanout,
    provider::Host,
    render::{Output, table},
};

/// Runs listed of each host.
const RUNS: u32 = 10;

/// `ctl status`: every host that answers gets a row, the others are the error.
pub(super) async fn status(context: Arc<Context>, args: &Targets, output: &Output) -> Result<()> {
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

/// `ctl runs`
pub(super) async fn runs(context: Arc<Context>, args: &Targets, output: &Output) -> Result<()> {
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

/// What those said that answered, and why the others did not.
type Split<T> = (Vec<(String, T)>, Vec<(Host, Error)>);

fn split<T>(results: Vec<(Host, Result<T>)>) -> Split<T> {
    let (mut answers, mut failures) = (Vec::new(), Vec::new());
    for (host, result) in results {
        match result {
            Ok(answer) => answers.push((host.name, answer)),
            Err(error) => failures.push((host, error)),
        }
    }
    (answers, failures)
}
