//! `ctl apply`, and the part of it that `ctl provision` shares: push, start, follow, recap.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use proto::pb::{self, RunState, start_request::What};
use tokio::signal;
use tonic::transport::Channel;

use super::{follow, syntax, usage};
use crate::{
    bundle::{Bundle, check, push, source},
    cli::{Apply, Source},
    client,
    context::{Connected, Context},
    error::{Error, Kind, Result},
    fanout,
    provider::Host,
    render::{
        Output,
        live::Live,
        recap::{self, Ending},
    },
};

/// What to apply, the same on every host.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) bundle: Arc<Bundle>,
    pub(super) noop: bool,
    pub(super) private: bool,
    pub(super) tags: Vec<String>,
}

/// The ids of the runs under way, for the one who detaches from them.
#[derive(Clone, Debug, Default)]
pub(super) struct Started(Arc<Mutex<Vec<String>>>);

/// `ctl apply`
pub(super) async fn apply(context: Arc<Context>, args: &Apply, output: &Output) -> Result<()> {
    let hosts = context.chosen(&args.targets, "apply").await?;
    let bundle = Arc::new(load(&context, &args.source, output)?);
    for host in &hosts {
        check::check(&bundle, &context.config.bundle.environment, &host.role)?;
    }
    let images = context.local.images()?;
    let image = hosts.iter().map(|host| &host.image).find(|image| images.contains(image));
    syntax::check(&context, &bundle, image).await?;
    let job = Job { bundle, noop: args.noop, private: args.private, tags: args.tags.clone() };
    let (live, started) = (screen(output, &hosts), Started::default());
    live.show_diffs(!args.no_diff);
    let work = fanout::each(hosts, |mut host| {
        let (context, job, live, started) =
            (Arc::clone(&context), job.clone(), live.clone(), started.clone());
        async move {
            let connected = context.connect(&host).await?;
            let channel = connected.channel.clone();
            usage::used(&context, &mut host, &channel, None).await?;
            let ending = apply_on(&context, &host, connected, &job, &live, &started).await?;
            usage::used(&context, &mut host, &channel, (!job.noop).then_some(&*job.bundle)).await?;
            Ok(ending)
        }
    });
    let results = or_detach(work, &live, &started).await?;
    conclude(output, &live, results)
}

/// Makes the bundle that was asked for: a revision, or the tree as it is.
pub(super) fn load(context: &Context, args: &Source, output: &Output) -> Result<Bundle> {
    let (directory, config, now) = (&context.directory, &context.config.bundle, SystemTime::now());
    let bundle = match &args.rev {
        Some(revision) => source::from_revision(directory, config, revision, now),
        None => source::from_working_tree(directory, config, now),
    }?;
    bundle.warnings().iter().for_each(|warning| output.note(&format!("warning: {warning}")));
    Ok(bundle)
}

/// A screen for these hosts.
pub(super) fn screen(output: &Output, hosts: &[Host]) -> Live {
    Live::new(output, &hosts.iter().map(|host| host.name.clone()).collect::<Vec<_>>())
}

/// Pushes the bundle to a host, applies it, and follows the run to its end.
pub(super) async fn apply_on(
    context: &Context,
    host: &Host,
    connected: Connected,
    job: &Job,
    live: &Live,
    started: &Started,
) -> Result<Ending> {
    let channel = connected.channel;
    let pushed = push::push(channel.clone(), &job.bundle).await?;
    let request = pb::StartRequest {
        run_id: follow::new_run_id(&host.name)?,
        what: Some(What::Apply(pb::Apply {
            bundle: job.bundle.digest().to_string(),
            role: host.role.clone(),
            environment: context.config.bundle.environment.clone(),
            noop: job.noop,
            tags: job.tags.clone(),
            commit: usage::commit(&job.bundle),
        })),
        private: job.private,
        ..pb::StartRequest::default()
    };
    let run = started.start(channel.clone(), host, request, live).await?;
    let run = follow::to_the_end(context, host, channel, &run.run_id, live).await?;
    Ok(Ending { host: host.name.clone(), run, push: Some(pushed.to_string()), story: Default::default() })
}

/// Waits for the work, or for Ctrl-C: then it lets go of the runs, which go on, and says how to follow them.
pub(super) async fn or_detach<T>(work: impl Future<Output = T>, live: &Live, started: &Started) -> Result<T> {
    tokio::select! {
        done = work => Ok(done),
        _ = signal::ctrl_c() => {
            live.finish();
            Err(started.detached())
        }
    }
}

/// Prints the recap and turns what went wrong into the one error that decides the exit code.
pub(super) fn conclude(output: &Output, live: &Live, results: Vec<(Host, Result<Ending>)>) -> Result<()> {
    let mut stories = live.finish();
    let (mut endings, mut failures) = (Vec::new(), Vec::new());
    for (host, result) in results {
        match result {
            Ok(ending) => {
                let story = stories.remove(&host.name).unwrap_or_default();
                endings.push(Ending { story, ..ending });
            }
            Err(error) => failures.push((host, error)),
        }
    }
    recap::recap(output, &endings)?;
    fanout::sum(failures)?;
    let of = |states: &[RunState]| -> Vec<&str> {
        endings.iter().filter(|e| states.contains(&e.run.state())).map(|e| e.host.as_str()).collect()
    };
    let failed = of(&[RunState::Failed]);
    if !failed.is_empty() {
        let error = Error::new(Kind::RunFailed, format!("the run failed on {}", failed.join(", ")));
        let again = endings.iter().find_map(|ending| applied(&ending.run)).map(|apply| {
            let noop = if apply.noop { " --noop" } else { "" };
            format!("fix the cause, then run `ctl apply {}{noop}` again", failed.join(" "))
        });
        return Err(again.into_iter().fold(error, Error::hint));
    }
    let ended = of(&[RunState::Cancelled, RunState::Interrupted]);
    if !ended.is_empty() {
        return Err(Error::new(
            Kind::Interrupted,
            format!("the run did not get to its end on {}", ended.join(", ")),
        ));
    }
    untagged(&endings)?;
    let pending: u32 = endings.iter().filter(|ending| is_noop(&ending.run)).map(pending).sum();
    if pending > 0 {
        let resources = if pending == 1 { "1 resource".to_owned() } else { format!("{pending} resources") };
        return Err(Error::new(Kind::Pending, format!("{resources} would change")));
    }
    Ok(())
}

/// A tag that no resource has on any host is a typo; on some of many hosts, it may be meant.
fn untagged(endings: &[Ending]) -> Result<()> {
    let lacks = |ending: &Ending| {
        ending
            .run
            .summary
            .as_ref()
            .is_some_and(|summary| summary.total > 0 && summary.untagged == summary.total)
    };
    let tags = endings.first().and_then(|ending| applied(&ending.run)).map(|apply| apply.tags.join(" or "));
    let Some(tags) = tags.filter(|_| endings.iter().all(lacks)) else { return Ok(()) };
    let hosts: Vec<&str> = endings.iter().map(|ending| ending.host.as_str()).collect();
    Err(Error::invalid(format!("no resource on {} has the tag {tags}: nothing was done", hosts.join(", ")))
        .hint("a resource has as tags its type, its title, and each class and module that it is in"))
}

fn applied(run: &pb::Run) -> Option<&pb::Apply> {
    match run.request.as_ref().and_then(|request| request.what.as_ref()) {
        Some(What::Apply(apply)) => Some(apply),
        _ => None,
    }
}

/// A real apply may have resources that its code marks `noop`; only a plan ends with "pending".
fn is_noop(run: &pb::Run) -> bool {
    applied(run).is_some_and(|apply| apply.noop)
}

fn pending(ending: &Ending) -> u32 {
    ending.run.summary.as_ref().map_or(0, |summary| summary.pending)
}

impl Started {
    /// Starts a run and shows its id. It is remembered before the host is asked: an answer may come too late.
    pub(super) async fn start(
        &self,
        channel: Channel,
        host: &Host,
        request: pb::StartRequest,
        live: &Live,
    ) -> Result<pb::Run> {
        let id = request.run_id.clone();
        self.add(&id);
        let run = client::runs::start(channel, &host.name, request).await;
        match &run {
            Ok(_) => live.started(&host.name, &id)?,
            Err(_) => self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| *known != id),
        }
        run
    }

    /// Remembers a run.
    pub(super) fn add(&self, run: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(run.to_owned());
    }

    fn detached(&self) -> Error {
        let runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut error = match runs.as_slice() {
            [] => Error::new(Kind::Interrupted, "interrupted before anything was started"),
            [run] => Error::new(Kind::Detached, format!("detached: run {run} goes on")),
            _ => Error::new(Kind::Detached, format!("detached: {} runs go on", runs.len())),
        };
        for run in runs.iter() {
            error = error.hint(format!("`ctl attach {run}` shows it, `ctl cancel {run}` ends it"));
        }
        error
    }
}
