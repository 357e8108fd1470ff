//! `ctl run`, `attach`, `cancel`.

use std::sync::Arc;

use proto::pb::{self, RunState, start_request::What};

use super::{
    apply::{self, Started},
    follow, stdin, usage,
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
    let names: Vec<String> = args.host.iter().cloned().collect();
    let hosts = context.running(&names, args.role.as_deref()).await?;
    let stdin = if args.no_stdin { Vec::new() } else { stdin::read(output).await? };
    let command = pb::Command { argv: args.command.clone(), stdin, stdin_bytes: 0 };
    let (live, started) = (apply::screen(output, &hosts), Started::default());
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
    let results = apply::or_detach(work, &live, &started).await?;
    finish(output, &live, results).map_err(|error| with_hints(error, &args))
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
    usage::used(context, &mut host, &channel, None).await?;
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

/// Says on stderr what stdout does not, and turns the commands' ends into one exit code.
fn finish(output: &Output, live: &Live, results: Vec<(Host, Result<Ending>)>) -> Result<()> {
    live.finish();
    let (mut endings, mut failures) = (Vec::new(), Vec::new());
    for (host, result) in results {
        match result {
            Ok(ending) => endings.push(ending),
            Err(error) => failures.push((host, error)),
        }
    }
    match endings.as_slice() {
        [only] if failures.is_empty() && !output.is_json() => remark(output, only),
        _ => recap::recap(&output.aside(), &endings)?,
    }
    fanout::sum(failures)?;
    let not_ended: Vec<&str> = endings
        .iter()
        .filter(|ending| matches!(ending.run.state(), RunState::Cancelled | RunState::Interrupted))
        .map(|ending| ending.host.as_str())
        .collect();
    if !not_ended.is_empty() {
        let what = format!("the command did not get to its end on {}", not_ended.join(", "));
        return Err(Error::new(Kind::Interrupted, what));
    }
    match endings.iter().map(|ending| exit_code(&ending.run)).max() {
        None | Some(0) => Ok(()),
        Some(code) => Err(Error::new(Kind::Command(code), format!("exit code {code}"))),
    }
}

/// One host whose command did well needs no recap: its output is the answer.
fn remark(output: &Output, Ending { host, run, .. }: &Ending) {
    let summary = run.summary.clone().unwrap_or_default();
    let failure = Some(summary.failure.clone()).filter(|failure| !failure.is_empty());
    for sentence in failure.into_iter().chain(recap::left(&summary)) {
        output.note(&format!("{host}: {sentence}"));
    }
}

/// The command's own exit code; 1 where the run has failed for another reason, such as output that was cut.
fn exit_code(run: &pb::Run) -> u8 {
    let code = run.summary.as_ref().map_or(0, |summary| summary.exit_code);
    match run.state() {
        RunState::Failed => u8::try_from(code).unwrap_or(u8::MAX).max(1),
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
    let is_command =
        matches!(run.request.as_ref().and_then(|request| request.what.as_ref()), Some(What::Command(_)));
    let ending = Ending { host: host.name.clone(), run, push: None, story: Default::default() };
    let results = vec![(host, Ok(ending))];
    if is_command { finish(output, &live, results) } else { apply::conclude(output, &live, results) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_code_is_ctls_and_a_failure_is_never_0() {
        let run = |state: RunState, exit_code| pb::Run {
            state: state.into(),
            summary: Some(pb::Summary { exit_code, ..pb::Summary::default() }),
            ..pb::Run::default()
        };
        assert_eq!(exit_code(&run(RunState::Succeeded, 0)), 0);
        for (code, wanted) in [(3, 3), (0, 1), (137, 137), (255, 255), (-1, 255)] {
            assert_eq!(exit_code(&run(RunState::Failed, code)), wanted);
        }
    }
}
