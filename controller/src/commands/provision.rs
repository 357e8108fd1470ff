//! `ctl provision`: from a role to running, configured hosts.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    apply::{self, Job, Started},
    syntax,
};
use crate::{
    bundle::check,
    cli::Provision,
    config::RoleConfig,
    context::Context,
    error::Result,
    fanout, pki,
    provider::{Host, ImageId, Launch, Provider, Usage},
    render::{self, Output},
};

/// Checks everything that can be checked first, so that a typo never costs a machine; then launches,
/// enrols, pushes and applies on all hosts at once.
pub(super) async fn provision(context: Arc<Context>, args: &Provision, output: &Output) -> Result<()> {
    let mut role = context.config.role(&args.role)?.clone();
    role.memory = args.memory.or(role.memory);
    let bundle = Arc::new(apply::load(&context, &args.source)?);
    check::check(&bundle, &args.role)?;
    let (provider, notes) = (Arc::clone(context.provider(context.config.provider(&role))?), output.notes());
    let image = provider.image(&role, &|line| notes.note(line)).await?;
    syntax::check(&context, &bundle, &image).await?;

    let hosts = launch(&context, &provider, args, &role, &image).await?;
    let job = Job { bundle, noop: false, private: false, tags: Vec::new() };
    let machines: Vec<Host> = hosts.iter().map(|(host, _)| host.clone()).collect();
    let (live, started) = (apply::screen(output, &machines), Started::default());
    let work = fanout::each(machines, |host| {
        let (context, job, live, started) =
            (Arc::clone(&context), job.clone(), live.clone(), started.clone());
        let took =
            hosts.iter().find(|(known, _)| known.id == host.id).map_or(Duration::ZERO, |(_, took)| *took);
        let output = output.clone();
        async move {
            live.step(&host.name, "booting");
            let connected = context.connect(&host).await?;
            render::provision::ready(&output, &live, &host, took + connected.boot, connected.enrol)?;
            apply::apply_on(&context, &host, connected, &job, &live, &started).await
        }
    });
    // There are hosts now: an interruption must name them.
    let named = hosts.iter().map(|(host, _)| host.name.as_str()).collect::<Vec<_>>().join(" ");
    let results = apply::or_detach(work, &live, &started).await.map_err(|error| {
        error.hint(format!("{named} stays: `ctl apply {named}` finishes it, `ctl destroy {named}` ends it"))
    })?;
    apply::conclude(output, &live, results)
}

/// Launches all hosts; each with how long the provider took. If one fails, the others are ended again.
async fn launch(
    context: &Arc<Context>,
    provider: &Arc<dyn Provider>,
    args: &Provision,
    role: &RoleConfig,
    image: &ImageId,
) -> Result<Vec<(Host, Duration)>> {
    let mut launches = tokio::task::JoinSet::new();
    for _ in 0..args.count {
        let tid = pki::new_tid()?;
        let launch = Launch {
            fleet: context.fleet.id().to_owned(),
            role: args.role.clone(),
            enrol_document: context.fleet.enrol_document(&tid, SystemTime::now())?.to_vec(),
            tid,
            image: image.clone(),
            settings: role.clone(),
            usage: Usage::default(),
            fingerprint: provider.fingerprint(role, image),
            clone_of: None,
        };
        let provider = Arc::clone(provider);
        launches.spawn(async move {
            let start = Instant::now();
            provider.launch(&launch).await.map(|host| (host, start.elapsed()))
        });
    }
    let (mut hosts, mut failure) = (Vec::new(), None);
    for launched in launches.join_all().await {
        match launched {
            Ok(host) => hosts.push(host),
            Err(error) => failure = Some(error),
        }
    }
    if let Some(error) = failure {
        let mut error = error;
        for (host, _) in &hosts {
            if let Err(left) = provider.destroy(host).await {
                error = error.hint(format!("{} is left over: {left}; `ctl destroy {0}`", host.name));
            }
        }
        return Err(error);
    }
    hosts.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    Ok(hosts)
}
