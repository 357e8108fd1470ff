//! `ctl provision`: from a role to running, configured hosts.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use tonic::transport::Channel;

use crate::{
    bundle::{Bundle, check},
    cli::Provision,
    client,
    context::Context,
    error::{Error, Result},
    fanout, holder, pki,
    pool::{
        claim::{self, Claimant},
        ladder::{self, Rung, Wanted},
    },
    provider::{Host, Kind, Standing, name},
    render::{self, Output, live::Live, pool::how, recap::Ending},
    steps::{
        conclude, consent, follow,
        job::{self, Job},
        lease,
        obtain::{self, Obtained, Order},
        parse,
        started::{self, Started},
    },
};

/// Time limit for settling the claims of hosts after Ctrl-C.
const LETTING_GO: Duration = Duration::from_secs(5);

/// Checks everything it can before it launches anything, so that a typo never costs a machine. Then reuses or
/// launches hosts and configures them in parallel.
pub(in crate::commands) async fn provision(
    context: Arc<Context>,
    args: &Provision,
    output: &Output,
) -> Result<()> {
    context.config.role(&args.role)?;
    if !args.dry_run {
        consent::operator(&context, "provision")?;
    }
    let bundle = Arc::new(job::load(&context, args.source.rev.as_deref(), output)?);
    check::check(&bundle, &context.config.bundle.environment, &args.role)?;
    let order = order(&context, args, output).await?;
    let local = order.provider.kind() == Kind::Local;
    parse::check(&context, &bundle, local.then_some(&order.image)).await?;

    let mut hosts = order.provider.hosts(context.fleet.id()).await?;
    name::make_unique(&mut hosts);
    let seed = pki::new_tid()?;
    let wanted = Wanted { role: &args.role, fingerprint: &order.fingerprint, reuse: args.reuse, seed: &seed };
    let ladder = ladder::climb(&hosts, &wanted, Timestamp::now().as_second(), holder::life);
    let known = [hosts, context.hosts_elsewhere(order.provider.kind()).await].concat();
    let names = obtain::names(&args.role, &known, args.count.into());
    render::pool::passed_over(output, &ladder.passed_over);
    if args.dry_run {
        return render::pool::plan(output, &ladder, &names);
    }
    let (mut obtained, mut failures) = (Vec::new(), Vec::new());
    for slot in obtain::obtain(&context, &order, ladder, names, &output.notes()).await {
        match slot {
            Ok(host) => obtained.push(host),
            Err(error) => failures.push(error),
        }
    }
    obtained.sort_by(|one, other| one.host.name.cmp(&other.host.name));
    for Obtained { host, rung, .. } in &obtained {
        output.note(&format!("{} {}", host.name, how(*rung)));
    }
    let configured = configure(&context, obtained, bundle, output, !args.no_diff).await;
    match (failures.into_iter().next(), configured) {
        (None, configured) => configured,
        (Some(error), Ok(())) => Err(error),
        (Some(error), Err(other)) => Err(error.hint(format!("also, on the hosts that did start: {other}"))),
    }
}

async fn order(context: &Context, args: &Provision, output: &Output) -> Result<Order> {
    let mut settings = context.config.role(&args.role)?.clone();
    settings.memory = args.memory.or(settings.memory);
    let provider = Arc::clone(context.provider(context.kind_for(&settings))?);
    let notes = output.notes();
    let image = provider.image(&settings, &|line| notes.note(line)).await?;
    Ok(Order {
        role: args.role.clone(),
        fingerprint: provider.fingerprint(&settings, &image),
        settings,
        provider,
        image,
        owner: context.user_name()?,
        holder: holder::this_process()?,
    })
}

/// Configures all hosts in parallel and reports each result.
async fn configure(
    context: &Arc<Context>,
    obtained: Vec<Obtained>,
    bundle: Arc<Bundle>,
    output: &Output,
    diffs: bool,
) -> Result<()> {
    if obtained.is_empty() {
        return Ok(());
    }
    let claims: Vec<(Host, Claimant)> =
        obtained.iter().map(|one| (one.host.clone(), one.claimant.clone())).collect();
    let hosts: Vec<Host> = claims.iter().map(|(host, _)| host.clone()).collect();
    let job = Job { bundle, noop: false, private: false, tags: Vec::new() };
    let (live, started) = (job::screen(output, &hosts), Started::default());
    live.show_diffs(diffs);
    let mut obtained: HashMap<String, Obtained> =
        obtained.into_iter().map(|one| (one.host.id.clone(), one)).collect();
    let work = fanout::each(hosts, |host| {
        let one = obtained.remove(&host.id);
        let (context, job, live, started) = (Arc::clone(context), job.clone(), live.clone(), started.clone());
        let output = output.clone();
        async move {
            let one = one.ok_or_else(|| Error::invalid("the provider gave two hosts one id"))?;
            finish(&context, one, &job, &Screen { output, live, started }).await
        }
    });
    // Hosts exist from here on: after an interruption, name them and leave them to their owner.
    let results = match started::or_detach(work, &live, &started).await {
        Ok(results) => results,
        Err(error) => {
            let named = claims.iter().map(|(host, _)| host.name.as_str()).collect::<Vec<_>>().join(" ");
            let _ = tokio::time::timeout(LETTING_GO, let_go(context, claims)).await;
            return Err(error.hint(format!(
                "hosts kept: {named}; `ctl apply {named}` configures them, `ctl destroy {named}` deletes them"
            )));
        }
    };
    conclude::applied(output, &live, results)
}

struct Screen {
    output: Output,
    live: Live,
    started: Started,
}

/// Configures one host. However the run ends, the host then belongs to its owner.
async fn finish(context: &Context, one: Obtained, job: &Job, screen: &Screen) -> Result<Ending> {
    let Obtained { mut host, connected, rung, took, claimant } = one;
    let connected = match connected {
        Some(connected) => connected,
        None => {
            screen.live.step(&host.name, "booting");
            let connected = context.connect(&host).await?;
            if let Err(held) = claim::take(&connected.channel, &host, &claimant).await? {
                return Err(claim::taken(&host, &held));
            }
            connected
        }
    };
    host.usage.claim.clone_from(&claimant.id);
    host.usage.standing = Standing::Claimed;
    // A reused host was connected to, and perhaps booted, while it was claimed.
    let boot = if rung.is_none() { took + connected.boot } else { took.saturating_sub(connected.enrol) };
    render::provision::ready(&screen.output, &screen.live, &host, boot, connected.enrol)?;
    let channel = connected.channel.clone();
    if rung == Some(Rung::Unfinished) {
        outlast(context, &host, &channel, &screen.live).await?;
    }
    let applied = job::apply_on(context, &host, connected, job, &screen.live, &screen.started).await;
    let settled =
        lease::settle(context, &mut host, &channel, &claimant, applied.is_ok().then_some(&*job.bundle)).await;
    let ending = applied?;
    settled.map(|()| ending)
}

/// Waits for a run that a dead controller left active on the host.
async fn outlast(context: &Context, host: &Host, channel: &Channel, live: &Live) -> Result<()> {
    if let Some(run) = client::status::ask(channel.clone(), &host.name).await?.active_run {
        live.step(&host.name, &format!("waiting for run {run}, which was started earlier"));
        follow::to_the_end(context, host, channel.clone(), &run, live).await?;
    }
    Ok(())
}

/// Settles the claims, so that the hosts belong to their owner in their current state.
async fn let_go(context: &Arc<Context>, claims: Vec<(Host, Claimant)>) {
    let claimants: HashMap<String, Claimant> =
        claims.iter().map(|(host, claimant)| (host.id.clone(), claimant.clone())).collect();
    let claimants = Arc::new(claimants);
    let hosts = claims.into_iter().map(|(host, _)| host).collect();
    // A host that cannot be reached stays claimed by a dead process: the next provision finishes it.
    let _ = fanout::each(hosts, |mut host| {
        let (context, claimants) = (Arc::clone(context), Arc::clone(&claimants));
        async move {
            let channel = context.connect(&host).await?.channel;
            let claimant = &claimants[&host.id];
            lease::settle(&context, &mut host, &channel, claimant, None).await
        }
    })
    .await;
}
