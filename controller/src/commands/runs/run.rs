//! `ctl run`: runs a command on hosts.

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

/// `ctl run`: passes one host's output through unchanged, like ssh; with several hosts, prefixes each line with the
/// host.
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
        return Err(Error::invalid(format!(
            "the agent of {} is too old to accept standard input",
            host.name
        ))
        .hint("`ctl run -n` runs the command without standard input"));
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

/// Adds a hint if the command failed for a reason that `ctl` recognizes.
fn with_hints(error: Error, args: &Run) -> Error {
    match (error.kind(), args.shell_hint()) {
        (Kind::Command(127), Some(hint)) => error.hint(hint),
        _ => error,
    }
}
