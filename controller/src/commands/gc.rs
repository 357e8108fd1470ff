//! `ctl gc`: what nobody needs any more.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;

use super::{machines, release};
use crate::{
    cli::Gc,
    client,
    context::Context,
    error::{Error, Kind, Result},
    fanout,
    pool::{
        gc::{self, Action, Step},
        holder,
    },
    provider::Host,
    render::{Output, pool},
};

/// Says what there is to clear up, and why; with `--yes`, does it.
pub(super) async fn gc(context: Arc<Context>, args: &Gc, output: &Output) -> Result<()> {
    let hosts = context.list(args.all).await?;
    let plan = plan(&hosts);
    pool::cleaning(output, &plan)?;
    if plan.is_empty() || !args.yes {
        output.note(if plan.is_empty() { "nothing to clear up" } else { "nothing was done: --yes does it" });
        return Ok(());
    }
    let steps: HashMap<String, Step> = plan.iter().map(|step| (step.host.id.clone(), step.clone())).collect();
    let (steps, all) = (Arc::new(steps), args.all);
    let hosts = plan.into_iter().map(|step| step.host).collect();
    let results = fanout::each(hosts, |host| {
        let (context, steps) = (Arc::clone(&context), Arc::clone(&steps));
        async move { act(&context, &steps[&host.id], all).await }
    });
    machines::said(results.await, "cleared up", output)
}

fn plan(hosts: &[Host]) -> Vec<Step> {
    gc::plan(hosts, Timestamp::now().as_second(), holder::life)
}

/// Looks once more first: others may have taken the host since it was listed, and its turn may come minutes later.
async fn act(context: &Context, step: &Step, all: bool) -> Result<()> {
    let (host, provider) = (&step.host, context.provider(step.host.provider)?);
    let fleet = context.fleet.id();
    let hosts = if all { provider.hosts_everywhere(fleet).await? } else { provider.hosts(fleet).await? };
    let same =
        |now: &Step| (&now.host.id, now.action, &now.host.usage) == (&host.id, step.action, &host.usage);
    if !plan(&hosts).iter().any(same) {
        return Err(Error::new(Kind::Busy, format!("{} is not as it was listed: it is left", host.name)));
    }
    match step.action {
        Action::Stop => {
            if let Some(run) = active_run(context, host).await {
                return Err(Error::new(Kind::Busy, format!("{} is left: run {run} is under way", host.name)));
            }
            provider.stop(host).await
        }
        Action::Release => release::give_back(context, host, false, false).await,
        Action::Destroy => provider.destroy(host).await,
    }
}

/// What the host is doing, as far as it can be asked.
async fn active_run(context: &Context, host: &Host) -> Option<String> {
    let channel = context.connect(host).await.ok()?.channel;
    client::status::ask(channel, &host.name).await.ok()?.active_run
}
