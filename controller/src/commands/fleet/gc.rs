//! `ctl gc`: cleans up unfinished, duplicate and expired hosts.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;

use crate::{
    cli::Gc,
    client,
    commands::hosts::{release, said},
    context::Context,
    error::{Error, Kind, Result},
    fanout, holder,
    pool::gc::{self, Action, Step},
    provider::Host,
    render::{Output, pool},
    steps::consent::{self, Word},
};

/// Lists what to clean up and why; with `--yes`, does it.
pub(in crate::commands) async fn gc(context: Arc<Context>, args: &Gc, output: &Output) -> Result<()> {
    if args.yes {
        consent::operator(&context, "gc --yes")?;
    }
    let hosts = context.list(args.all).await?;
    let plan = plan(&hosts);
    pool::cleaning(output, &plan)?;
    if plan.is_empty() || !args.yes {
        output.note(if plan.is_empty() {
            "nothing to clean up"
        } else {
            "nothing was changed: add --yes to do this"
        });
        return Ok(());
    }
    let steps: HashMap<String, Step> = plan.iter().map(|step| (step.host.id.clone(), step.clone())).collect();
    let (steps, all) = (Arc::new(steps), args.all);
    let hosts = plan.into_iter().map(|step| step.host).collect();
    let results = fanout::each(hosts, |host| {
        let (context, steps) = (Arc::clone(&context), Arc::clone(&steps));
        async move {
            let step = &steps[&host.id];
            act(&context, step, all).await.map(|()| step.action.words().1)
        }
    });
    said(results.await, output)
}

fn plan(hosts: &[Host]) -> Vec<Step> {
    gc::plan(hosts, Timestamp::now().as_second(), holder::life)
}

/// Lists the hosts again first: someone may have taken the host since, and its turn may come minutes later.
async fn act(context: &Context, step: &Step, all: bool) -> Result<()> {
    let (host, provider) = (&step.host, context.provider(step.host.provider)?);
    let fleet = context.fleet.id();
    let hosts = if all { provider.hosts_everywhere(fleet).await? } else { provider.hosts(fleet).await? };
    let same =
        |now: &Step| (&now.host.id, now.action, &now.host.usage) == (&host.id, step.action, &host.usage);
    if !plan(&hosts).iter().any(same) {
        return Err(Error::new(
            Kind::Busy,
            format!("{} was skipped: it has changed since it was listed", host.name),
        ));
    }
    match step.action {
        Action::Release => release::give_back(context, host, false, false).await,
        Action::Stop => {
            unused(context, host).await?;
            provider.stop(host).await
        }
        Action::Destroy => {
            unused(context, host).await?;
            provider.destroy(host).await
        }
    }
}

/// Checks with the host itself, if it answers, that it is not claimed and no run is active.
async fn unused(context: &Context, host: &Host) -> Result<()> {
    let Word::Said(channel, claim) = consent::word_of(context, host).await? else { return Ok(()) };
    let left = |why| Err(Error::new(Kind::Busy, format!("{} was skipped: {why}", host.name)));
    let now_unix_ms = Timestamp::now().as_millisecond();
    if let Some(claim) = claim.filter(|claim| claim.until_unix_ms > now_unix_ms) {
        let until = Timestamp::from_millisecond(claim.until_unix_ms).unwrap_or_default();
        return left(format!("{} has claimed it until {until:.0}", claim.user));
    }
    match client::status::ask(channel, &host.name).await.ok().and_then(|status| status.active_run) {
        Some(run) => left(format!("run {run} is still running")),
        None => Ok(()),
    }
}
