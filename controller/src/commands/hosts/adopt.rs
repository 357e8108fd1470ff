//! `ctl adopt`: a machine that is there already becomes a host of the fleet; and how it ceases to be one.

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

/// How long an agent may take to end, once it was told to.
const LEAVING: Duration = Duration::from_secs(20);
/// Between questions whether it has.
const PAUSE: Duration = Duration::from_millis(200);

/// Installs the agent over ssh, and enrols it over its own port. Puppet is not applied.
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
        return Err(Error::invalid(format!("{} is {} already", known.address, known.name))
            .hint(format!("if it was installed anew: `ctl destroy --forget {}` first", known.name)));
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
                "its agent was installed and listens on port {}; `ctl status {}` tries again",
                proto::PORT,
                host.name
            ))
            .hint("if the port is not open to this machine: `proxy = …` in [connect] of magpie.toml")
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

/// Takes the agent off an adopted machine, with all that it keeps there. Returns when it does not answer any more;
/// the machine goes on.
/// `channel` is the connection to it, or why there is none.
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
        error.context_once(name).hint(format!("`ctl destroy --forget {name}` leaves its agent where it is"))
    })?;
    if let Some(run) = client::status::ask(channel.clone(), name).await?.active_run {
        return Err(Error::new(Kind::Busy, format!("{name}: run {run} is under way"))
            .hint(format!("`ctl cancel {run}` ends it")));
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
            return Err(Error::unreachable(format!("{name}: its agent was told to go and is still there"))
                .hint(format!("`ctl run {name} -- journalctl -u magpie-removal` may say why")));
        }
        sleep(PAUSE).await;
    }
    Ok(())
}
