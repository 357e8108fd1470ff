//! `ctl hosts`, `start`, `stop`, `destroy`: what the provider does, for those whom the hosts let.

use std::sync::Arc;

use super::{adopt, consent, usage};
use crate::{
    cli::{Destroy, Hosts, Stop},
    context::Context,
    error::{Error, Kind, Result},
    fanout,
    provider::{Host, HostState, Kind as ProviderKind},
    render::{
        Output, hosts as table,
        question::{self, Answer},
    },
};

/// `ctl hosts`
pub(super) async fn hosts(context: &Context, args: &Hosts, output: &Output) -> Result<()> {
    let hosts = context.list(args.all).await?;
    table::hosts(output, &hosts, jiff::Timestamp::now(), args.wide)
}

/// `ctl start HOST…`; as with `apply`, it does not matter whose a host is.
pub(super) async fn start(context: Arc<Context>, names: &[String], output: &Output) -> Result<()> {
    let hosts = context.named(names).await?;
    consent::operator(&context, "start")?;
    let results = fanout::each(hosts, |host| {
        let context = Arc::clone(&context);
        async move {
            let ran = host.state == HostState::Running;
            let mut host = context.provider(host.provider)?.start(&host).await?;
            let channel = context.connect_after_boot(&host).await?.channel;
            usage::used(&context, &mut host, &channel, None).await?;
            Ok(if ran { "runs already" } else { "started" })
        }
    });
    said(results.await, output)
}

/// `ctl stop HOST…`
pub(super) async fn stop(context: Arc<Context>, args: &Stop, output: &Output) -> Result<()> {
    let hosts = context.named(&args.hosts).await?;
    let hosts = consent::all(&context, hosts, "stop", args.force).await?;
    let results = fanout::each(hosts.into_iter().map(|(host, _)| host).collect(), |host| {
        let context = Arc::clone(&context);
        async move {
            context.provider(host.provider)?.stop(&host).await?;
            Ok(if host.state == HostState::Stopped { "is stopped already" } else { "stopped" })
        }
    });
    said(results.await, output)
}

/// `ctl destroy HOST…`; adopted machines go on without agent, or with it if they are to be forgotten only.
pub(super) async fn destroy(context: Arc<Context>, args: &Destroy, output: &Output) -> Result<()> {
    let hosts = context.named(&args.hosts).await?;
    if !args.yes && !question::can_be_asked() {
        return Err(Error::invalid("destroy asks before it ends hosts, and nobody is there to answer")
            .hint("--yes does it without asking"));
    }
    let mut hosts = consent::all(&context, hosts, "destroy", args.force).await?;
    if !args.yes && !agreed(&hosts, args.forget, output) {
        return Err(Error::new(Kind::Interrupted, "nothing was destroyed"));
    }
    let forget = args.forget;
    let results = fanout::each(hosts.iter().map(|(host, _)| host.clone()).collect(), |host| {
        let context = Arc::clone(&context);
        let place = hosts.iter().position(|(consenting, _)| consenting.id == host.id);
        let channel = place.map(|place| hosts.swap_remove(place).1);
        async move {
            if let Some(channel) = channel.filter(|_| host.provider == ProviderKind::Ssh && !forget) {
                adopt::leave(&context, &host, channel).await?;
            }
            context.provider(host.provider)?.destroy(&host).await?;
            Ok("destroyed")
        }
    });
    said(results.await, output)
}

/// Names what will be lost, and asks.
fn agreed(hosts: &[consent::Consenting], forget: bool, output: &Output) -> bool {
    for (host, _) in hosts {
        output.note(&format!("{}: {}", host.name, loss(host, forget)));
    }
    let what = if let [(host, _)] = hosts { host.name.clone() } else { format!("{} hosts", hosts.len()) };
    question::ask(output, &format!("destroy {what}?")) == Answer::Yes
}

/// What there will not be any more.
fn loss(host: &Host, forget: bool) -> String {
    let whose = match host.usage.owner.as_str() {
        "" => String::new(),
        owner => format!(" ({owner}'s)"),
    };
    match (host.provider, forget) {
        (ProviderKind::Ssh, true) => format!("what is known of the machine here{whose}; its agent stays"),
        (ProviderKind::Ssh, false) => {
            format!("the agent, its runs and its flight record{whose}; the machine goes on")
        }
        _ => format!("the host with its disk, runs and flight record{whose}"),
    }
}

/// Says of each host what was done, and sums up the failures.
pub(super) fn said(results: Vec<(Host, Result<&'static str>)>, output: &Output) -> Result<()> {
    let mut failures = Vec::new();
    for (host, result) in results {
        match result {
            Ok(done) => output.note(&format!("{} {done}", host.name)),
            Err(error) => failures.push((host, error)),
        }
    }
    fanout::sum(failures)
}
