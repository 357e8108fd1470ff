//! `ctl gc`: what nobody needs any more.

use std::{collections::HashMap, path::Path, sync::Arc};

use jiff::Timestamp;

use super::{machines, release};
use crate::{
    cli::Gc,
    context::Context,
    error::Result,
    fanout,
    pool::{
        gc::{self, Action},
        holder,
    },
    provider::Host,
    render::{Output, pool},
};

/// Says what there is to clear up, and why; with `--yes`, does it.
pub(super) async fn gc(context: Arc<Context>, args: &Gc, output: &Output) -> Result<()> {
    let hosts = if args.all { context.hosts_everywhere().await? } else { context.hosts().await? };
    let life = |holder: &str| holder::life(Path::new("/proc"), holder);
    let plan = gc::plan(&hosts, Timestamp::now().as_second(), life);
    pool::cleaning(output, &plan)?;
    if plan.is_empty() || !args.yes {
        output.note(if plan.is_empty() { "nothing to clear up" } else { "nothing was done: --yes does it" });
        return Ok(());
    }
    let actions: Arc<HashMap<String, Action>> =
        Arc::new(plan.iter().map(|step| (step.host.id.clone(), step.action)).collect());
    let hosts = plan.into_iter().map(|step| step.host).collect();
    let results = fanout::each(hosts, |host| {
        let (context, actions) = (Arc::clone(&context), Arc::clone(&actions));
        async move { act(&context, &host, actions[&host.id]).await }
    });
    machines::said(results.await, "cleared up", output)
}

async fn act(context: &Context, host: &Host, action: Action) -> Result<()> {
    let provider = context.provider(host.provider)?;
    match action {
        Action::Stop => provider.stop(host).await,
        Action::Release => release::give_back(context, host, false).await,
        Action::Destroy => provider.destroy(host).await,
    }
}
