//! `ctl gc`: what nobody needs any more.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;

use super::{
    consent::{self, Word},
    machines, release,
};
use crate::{
    cli::Gc,
    client,
    context::Context,
    error::{Error, Kind, Result},
    fanout, holder,
    pool::gc::{self, Action, Step},
    provider::Host,
    render::{Output, pool},
};

/// Says what there is to clear up, and why; with `--yes`, does it.
pub(super) async fn gc(context: Arc<Context>, args: &Gc, output: &Output) -> Result<()> {
    if args.yes {
        consent::operator(&context, "gc --yes")?;
    }
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
        async move {
            let step = &steps[&host.id];
            act(&context, step, all).await.map(|()| step.action.words().1)
        }
    });
    machines::said(results.await, output)
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

/// Asks a host, if it answers, whether it is as unused as its tags say: nobody has it any more, and it does nothing.
async fn unused(context: &Context, host: &Host) -> Result<()> {
    let Word::Said(channel, claim) = consent::word_of(context, host).await? else { return Ok(()) };
    let left = |why| Err(Error::new(Kind::Busy, format!("{} is left: {why}", host.name)));
    let now_unix_ms = Timestamp::now().as_millisecond();
    if let Some(claim) = claim.filter(|claim| claim.until_unix_ms > now_unix_ms) {
        let until = Timestamp::from_millisecond(claim.until_unix_ms).unwrap_or_default();
        return left(format!("it says that {} has it until {until:.0}", claim.user));
    }
    match client::status::ask(channel, &host.name).await.ok().and_then(|status| status.active_run) {
        Some(run) => left(format!("run {run} is under way")),
        None => Ok(()),
    }
}
