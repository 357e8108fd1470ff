//! `ctl adopt`: turns an existing machine into a host of the fleet. Also removes the agent again for `ctl destroy`.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;
use proto::pb::{self, start_request::What};
use tokio::time::sleep;
use tonic::transport::Channel;

use crate::{
    cli::Adopt,
    client,
    context::Context,
    error::{Error, Kind, Result},
    pki,
    pool::{self, claim::Claimant},
    provider::{
        Host, Kind as ProviderKind, Usage,
        ssh::{Adoption, Target, removal},
    },
    render::{Output, table},
    steps::{follow, lease, obtain},
};

/// How long an agent may take to shut down after the request.
const LEAVING: Duration = Duration::from_secs(20);
/// Interval between checks whether the agent is gone.
const PAUSE: Duration = Duration::from_millis(200);

/// Installs the agent over ssh and enrols it over the agent's port. Does not apply Puppet code.
pub(in crate::commands) async fn adopt(context: Arc<Context>, args: &Adopt, output: &Output) -> Result<()> {
    context.config.role(&args.role)?;
    context.fleet.enroller(SystemTime::now())?;
    let target =
        Target { destination: args.destination.clone(), port: args.port, options: args.ssh_options.clone() };
    let address = match &args.address {
        Some(address) => address.clone(),
        None => target.host_name().await?,
    };
    let hosts = context.hosts().await?;
    if let Some(known) =
        hosts.iter().find(|host| host.provider == ProviderKind::Ssh && host.address == address)
    {
        return Err(Error::invalid(format!("{} is already the host {}", known.address, known.name))
            .hint(format!("if the machine was reinstalled: `ctl destroy --forget {}` first", known.name)));
    }
    let claimant = Claimant::of_this_process()?;
    let adoption = adoption(&context, args, address, &hosts, &claimant)?;
    let notes = output.notes();
    let mut host = context.ssh.adopt(&target, adoption, &|line| notes.note(line)).await?;
    let settled = async {
        let channel = context.connect(&host).await?.channel;
        lease::settle(&context, &mut host, &channel, &claimant, None).await
    };
    settled.await.map_err(|error| {
        error
            .context_once(&host.name)
            .hint(format!(
                "the agent is installed and listens on port {}; `ctl status {}` tries again",
                proto::PORT,
                host.name
            ))
            .hint("if this machine cannot reach the port: set `proxy = …` in [connect] of magpie.toml")
    })?;
    table::made(output, &host)
}

fn adoption(
    context: &Context,
    args: &Adopt,
    address: String,
    hosts: &[Host],
    claimant: &Claimant,
) -> Result<Adoption> {
    let tid = pki::new_tid()?;
    Ok(Adoption {
        fleet: context.fleet.id().to_owned(),
        role: args.role.clone(),
        name: obtain::names(&args.role, hosts, 1).concat(),
        address,
        enrol_document: context.fleet.enrol_document(&tid, SystemTime::now())?.to_vec(),
        tid,
        usage: Usage {
            owner: context.user_name()?,
            holder: claimant.holder.clone(),
            claim: claimant.id.clone(),
            lease_until: pool::lease::unsettled(Timestamp::now().as_second()),
            ..Usage::default()
        },
    })
}

/// Removes the agent and its data from an adopted machine; the machine keeps running. Returns when the agent no
/// longer answers. `channel` is the connection to the agent, or why there is none.
pub(in crate::commands) async fn leave(
    context: &Context,
    host: &Host,
    channel: Result<Channel>,
) -> Result<()> {
    let name = &host.name;
    let channel = match channel {
        Err(_) if !host.enrolled() => context.connect(host).await.map(|connected| connected.channel),
        channel => channel,
    };
    let channel = channel.map_err(|error| {
        error
            .context_once(name)
            .hint(format!("`ctl destroy --forget {name}` removes the host and leaves the agent installed"))
    })?;
    if let Some(run) = client::status::ask(channel.clone(), name).await?.active_run {
        return Err(Error::new(Kind::Busy, format!("{name}: run {run} is still running"))
            .hint(format!("`ctl cancel {run}` cancels it")));
    }
    let request = pb::StartRequest {
        run_id: follow::new_run_id(name)?,
        what: Some(What::Command(pb::Command { argv: removal(), ..pb::Command::default() })),
        ..pb::StartRequest::default()
    };
    client::runs::start(channel, name, request).await?;
    let deadline = Instant::now() + LEAVING;
    while context.connect_now(host).await.is_ok() {
        if Instant::now() > deadline {
            return Err(Error::unreachable(format!(
                "{name}: the agent did not remove itself within {} s",
                LEAVING.as_secs()
            ))
            .hint(format!("`ctl run {name} -- journalctl -u magpie-removal` may show why")));
        }
        sleep(PAUSE).await;
    }
    Ok(())
}
