//! `ctl run`: a command on hosts.

use std::sync::Arc;

use proto::pb::{self, start_request::What};

use crate::{
    cli::Run,
    client,
    context::Context,
    error::{Error, Kind, Result},
    fanout,
    provider::Host,
    render::{Output, live::Live, recap::Ending},
    steps::{
        conclude, follow, job, lease,
        started::{self, Started},
        stdin,
    },
};

/// `ctl run`: like ssh, one host's output passes through as it is; several hosts' lines say whose they are.
pub(in crate::commands) async fn run(context: Arc<Context>, args: &Run, output: &Output) -> Result<()> {
    let names: Vec<String> = args.host.iter().cloned().collect();
    let hosts = context.running(&names, args.role.as_deref()).await?;
    let stdin = if args.no_stdin { Vec::new() } else { stdin::read(output).await? };
    let command = pb::Command { argv: args.command.clone(), stdin, stdin_bytes: 0 };
    let (live, started) = (job::screen(output, &hosts), Started::default());
    let work = fanout::each(hosts, |host| {
        let (context, live, started) = (Arc::clone(&context), live.clone(), started.clone());
        let request = pb::StartRequest {
            run_id: String::new(),
            what: Some(What::Command(command.clone())),
            private: args.private,
            output_limit_bytes: args.max_output,
        };
        async move { run_on(&context, host, request, &live, &started).await }
    });
    let results = started::or_detach(work, &live, &started).await?;
    conclude::commands(output, &live, results).map_err(|error| with_hints(error, args))
}

async fn run_on(
    context: &Context,
    mut host: Host,
    mut request: pb::StartRequest,
    live: &Live,
    started: &Started,
) -> Result<Ending> {
    let channel = context.connect(&host).await?.channel;
    request.run_id = follow::new_run_id(&host.name)?;
    let sent = sent_bytes(&request);
    let run = started.start(channel.clone(), &host, request, live).await?;
    if run.request.as_ref().map_or(0, taken_bytes) != sent {
        client::runs::cancel(channel, &host.name, &run.run_id).await?;
        return Err(Error::invalid(format!("the agent of {} is too old to take standard input", host.name))
            .hint("`ctl run -n` gives the command none"));
    }
    lease::used(context, &mut host, &channel, None).await?;
    let run = follow::to_the_end(context, &host, channel, &run.run_id, live).await?;
    Ok(Ending { host: host.name.clone(), run, push: None, story: Default::default() })
}

fn sent_bytes(request: &pb::StartRequest) -> u64 {
    match &request.what {
        Some(What::Command(command)) => command.stdin.len() as u64,
        _ => 0,
    }
}

fn taken_bytes(request: &pb::StartRequest) -> u64 {
    match &request.what {
        Some(What::Command(command)) => command.stdin_bytes,
        _ => 0,
    }
}

/// What to do about a command that failed for a reason that `ctl` knows.
fn with_hints(error: Error, args: &Run) -> Error {
    match (error.kind(), args.shell_hint()) {
        (Kind::Command(127), Some(hint)) => error.hint(hint),
        _ => error,
    }
}
