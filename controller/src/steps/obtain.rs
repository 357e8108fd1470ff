//! Gets hosts of a role: reuses free hosts first, then launches new ones.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::{
    config::RoleConfig,
    connect::Connected,
    context::Context,
    error::Result,
    pki,
    pool::{
        claim::{self, Claimant},
        ladder::{Candidate, Ladder, Rung},
        lease,
    },
    provider::{Fingerprint, Host, HostState, ImageId, Launch, Provider, Standing, Usage, name},
    render::Notes,
};

/// The kind of hosts to get.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) role: String,
    pub(crate) settings: RoleConfig,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) image: ImageId,
    pub(crate) fingerprint: Fingerprint,
    /// The user who will own the hosts.
    pub(crate) owner: String,
    /// This process.
    pub(crate) holder: String,
}

/// A host that this process has claimed or launched.
#[derive(Debug)]
pub(crate) struct Obtained {
    pub(crate) host: Host,
    /// The connection over which an existing host was claimed; `None` for a new host.
    pub(crate) connected: Option<Connected>,
    /// How the host was reused; `None` for a new host.
    pub(crate) rung: Option<Rung>,
    /// Time it took to claim or launch the host.
    pub(crate) took: Duration,
    pub(crate) claimant: Claimant,
}

/// Gets `names.len()` hosts in parallel: each slot takes the best candidate left on the ladder, or launches a host with
/// its name if none is left. A failure in one slot does not stop the others.
pub(crate) async fn obtain(
    context: &Arc<Context>,
    order: &Order,
    ladder: Ladder,
    names: Vec<String>,
    notes: &Notes,
) -> Vec<Result<Obtained>> {
    let candidates = Arc::new(Mutex::new(VecDeque::from(ladder.candidates)));
    let mut slots = JoinSet::new();
    for name in names {
        let (context, order, notes) = (Arc::clone(context), order.clone(), notes.clone());
        let candidates = Arc::clone(&candidates);
        slots.spawn(async move {
            loop {
                let next = candidates.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(candidate) = next else { return launch(&context, &order, name).await };
                if let Some(obtained) = take(&context, &order, candidate, &notes).await {
                    return Ok(obtained);
                }
            }
        });
    }
    slots.join_all().await
}

/// Tries to claim a host. On failure, prints a note and returns `None`, so that the next candidate is tried.
async fn take(context: &Context, order: &Order, candidate: Candidate, notes: &Notes) -> Option<Obtained> {
    let name = candidate.host.name.clone();
    match claim(context, order, candidate).await {
        Ok(Ok(obtained)) => Some(obtained),
        Ok(Err(lost)) => {
            notes.note(&format!("{name} was just taken by {}", lost.user));
            None
        }
        Err(error) => {
            notes.note(&format!("{name} cannot be reused: {error}"));
            error.hints().iter().for_each(|hint| notes.note(hint));
            None
        }
    }
}

type Claimed = std::result::Result<Obtained, proto::pb::Claim>;

async fn claim(context: &Context, order: &Order, Candidate { host, rung }: Candidate) -> Result<Claimed> {
    let started = Instant::now();
    let was_down = host.state != HostState::Running;
    if rung == Rung::Unfinished {
        announce(context, order, &host).await?;
    }
    // The claim replaces the one that was read when the host was chosen; a newer one belongs to another controller.
    let mut host = Host { usage: host.usage.clone(), ..up(context, order, &host).await? };
    let connected = if was_down {
        // If the host does not answer, leave it running: another controller may have claimed it meanwhile.
        let reached = context.connect_after_boot(&host).await;
        reached.map_err(|error| error.hint(format!("{} was started and is left running", host.name)))?
    } else {
        context.connect(&host).await?
    };
    let claimant = Claimant { id: pki::new_tid()?, holder: order.holder.clone() };
    if let Err(held) = claim::take(&connected.channel, &host, &claimant).await? {
        return Ok(Err(held));
    }
    host.usage = Usage {
        commit: std::mem::take(&mut host.usage.commit),
        bundle: std::mem::take(&mut host.usage.bundle),
        ..usage(order, &claimant, Standing::Claimed)
    };
    context.provider(host.provider)?.mark(&host).await?;
    Ok(Ok(Obtained { host, connected: Some(connected), rung: Some(rung), took: started.elapsed(), claimant }))
}

/// Marks an abandoned host as being worked on by this process, so that `ctl gc` does not clean it up.
async fn announce(context: &Context, order: &Order, host: &Host) -> Result<()> {
    let usage = Usage { holder: order.holder.clone(), owner: order.owner.clone(), ..host.usage.clone() };
    context.provider(host.provider)?.mark(&Host { usage, ..host.clone() }).await
}

/// Boots a host that is down. A host that was never up is launched again, with the same transaction id.
async fn up(context: &Context, order: &Order, host: &Host) -> Result<Host> {
    match (host.state, host.usage.standing) {
        (HostState::Running, _) => Ok(host.clone()),
        (_, Standing::Launched) => {
            let document = context.fleet.enrol_document(&host.tid, SystemTime::now())?.to_vec();
            let again = new(context, order, host.name.clone())?;
            let again = Launch { tid: host.tid.clone(), enrol_document: document, ..again };
            let launched = order.provider.launch(&again).await?;
            if launched.state == HostState::Running {
                return Ok(launched);
            }
            order.provider.start(&launched).await
        }
        _ => context.provider(host.provider)?.start(host).await,
    }
}

async fn launch(context: &Context, order: &Order, name: String) -> Result<Obtained> {
    let started = Instant::now();
    // Check this before launching a machine that would then wait for enrolment.
    context.fleet.enroller(SystemTime::now())?;
    let launch = new(context, order, name)?;
    let claimant = Claimant { id: launch.usage.claim.clone(), holder: order.holder.clone() };
    let host = order.provider.launch(&launch).await?;
    Ok(Obtained { host, connected: None, rung: None, took: started.elapsed(), claimant })
}

/// The launch request for one host of an order, with a new transaction id and claim id.
pub(crate) fn new(context: &Context, order: &Order, name: String) -> Result<Launch> {
    let (tid, claim) = (pki::new_tid()?, pki::new_tid()?);
    let claimant = Claimant { id: claim, holder: order.holder.clone() };
    Ok(Launch {
        fleet: context.fleet.id().to_owned(),
        role: order.role.clone(),
        name,
        enrol_document: context.fleet.enrol_document(&tid, SystemTime::now())?.to_vec(),
        tid,
        image: order.image.clone(),
        settings: order.settings.clone(),
        usage: usage(order, &claimant, Standing::Launched),
        fingerprint: order.fingerprint.clone(),
        clone_of: None,
    })
}

fn usage(order: &Order, claimant: &Claimant, standing: Standing) -> Usage {
    Usage {
        standing,
        owner: order.owner.clone(),
        holder: claimant.holder.clone(),
        claim: claimant.id.clone(),
        lease_until: lease::unsettled(Timestamp::now().as_second()),
        ..Usage::default()
    }
}

/// `count` names for new hosts of a role, different from the names of `hosts`.
pub(crate) fn names(role: &str, hosts: &[Host], count: usize) -> Vec<String> {
    let mut taken: Vec<String> = hosts.iter().map(|host| host.name.clone()).collect();
    (0..count)
        .map(|_| {
            let free = name::free(role, taken.iter().map(String::as_str));
            taken.push(free.clone());
            free
        })
        .collect()
}
