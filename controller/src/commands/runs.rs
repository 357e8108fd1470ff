//! `ctl run`, `attach`, `cancel`.

use std::sync::Arc;

use proto::pb::{self, start_request::What};

use super::{
    apply::{self, Started},
    follow, usage,
};
use crate::{
    cli::Run,
    client,
    context::Context,
    error::{Error, Kind, Result},
    fanout,
    provider::Host,
    render::{
        Output,
        live::Live,
        recap::{self, Ending},
    },
};

/// `ctl run`: like ssh, one host's output passes through as it is; several hosts' lines say whose they are.
pub(super) async fn run(context: Arc<Context>, args: Run, output: &Output) -> Result<()> {
    let names: Vec<String> = args.host.into_iter().collect();
    let hosts = context.running(&names, args.role.as_deref()).await?;
    let (live, started) = (apply::screen(output, &hosts), Started::default());
    let work = fanout::each(hosts, |mut host| {
        let (context, live, started) = (Arc::clone(&context), live.clone(), started.clone());
        let (argv, private) = (args.command.clone(), args.private);
        async move {
            let channel = context.connect(&host).await?.channel;
            let request = pb::StartRequest {
                run_id: follow::new_run_id(&host.name)?,
                what: Some(What::Command(pb::Command { argv })),
                private,
            };
            let run = started.start(channel.clone(), &host, request, &live).await?;
            usage::used(&context, &mut host, &channel, None).await?;
            let run = follow::to_the_end(&context, &host, channel, &run.run_id, &live).await?;
            Ok(Ending { host: host.name.clone(), run, push: None, story: Default::default() })
        }
    });
    let results = apply::or_detach(work, &live, &started).await?;
    finish(output, &live, results)
}

/// One host that did well needs no recap: its output is the answer.
fn finish(output: &Output, live: &Live, results: Vec<(Host, Result<Ending>)>) -> Result<()> {
    let quiet =
        matches!(results.as_slice(), [(_, Ok(ending))] if ending.run.state() == pb::RunState::Succeeded);
    if quiet && !output.is_json() {
        live.finish();
        return Ok(());
    }
    apply::conclude(output, live, results)
}

/// `ctl attach`
pub(super) async fn attach(context: Arc<Context>, run_id: &str, diffs: bool, output: &Output) -> Result<()> {
    let host = follow::host_of(&context, run_id).await?;
    let channel = context.connect(&host).await?.channel;
    client::runs::get(channel.clone(), &host.name, run_id).await?;
    let (live, started) = (apply::screen(output, std::slice::from_ref(&host)), Started::default());
    live.show_diffs(diffs);
    started.add(run_id);
    let work = follow::to_the_end(&context, &host, channel, run_id, &live);
    let run = apply::or_detach(work, &live, &started).await??;
    let ending = Ending { host: host.name.clone(), run, push: None, story: Default::default() };
    apply::conclude(output, &live, vec![(host, Ok(ending))])
}

/// `ctl cancel`: asks, and waits until it is done.
pub(super) async fn cancel(context: &Context, run_id: &str, output: &Output) -> Result<()> {
    let host = follow::host_of(context, run_id).await?;
    let channel = context.connect(&host).await?.channel;
    let run = client::runs::cancel(channel.clone(), &host.name, run_id).await?;
    if client::runs::is_over(run.state()) {
        return Err(Error::new(Kind::Invalid, format!("run {run_id} has ended already"))
            .hint(format!("`ctl attach {run_id}` shows it")));
    }
    let silent = |_event| {};
    let ended = client::runs::follow(channel, &host.name, run_id, 0, silent).await?;
    if let client::runs::Followed::Ended(run) = ended {
        let ending = Ending { host: host.name, run: *run, push: None, story: Default::default() };
        return recap::recap(output, &[ending]);
    }
    output.note(&format!("{run_id} was told to end; the connection was lost before it did"));
    Ok(())
}
