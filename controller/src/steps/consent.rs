//! Checks whether a user may stop, destroy, copy or release a host. The provider itself would allow this to anyone with
//! the provider's rights, so these commands first check the user's certificate and the host's owner.
//!
//! A running host is asked, with a call that needs the role operator; if the host refuses, nothing is done. If no agent
//! answers (the host is stopped, hangs, or was never enrolled), the user needs a certificate that the fleet's user CA
//! signed, that is valid now and that has this role; the owner then comes from the provider's tags.

use std::{sync::Arc, time::SystemTime};

use jiff::Timestamp;
use proto::{identity::Role, pb};
use tonic::transport::Channel;

use crate::{
    client::claims::{self, Present},
    context::Context,
    error::{Error, Kind, Result},
    fanout, holder,
    pool::{claim, ladder},
    provider::{Host, HostState, Standing},
};

/// A host that may be changed, with the connection to it, or why there is none.
pub(crate) type Consenting = (Host, Result<Channel>);

/// A host's answer to the question who has claimed it.
pub(crate) enum Word {
    /// The host answered; its claim, if one is in force.
    Said(Channel, Option<pb::Claim>),
    /// The host did not answer, and why.
    Silent(Error),
}

/// Checks all hosts before any of them is changed; `verb` is for the error message.
pub(crate) async fn all(
    context: &Arc<Context>,
    hosts: Vec<Host>,
    verb: &str,
    force: bool,
) -> Result<Vec<Consenting>> {
    let user = operator(context, verb)?;
    let results = fanout::each(hosts, |host| {
        let (context, user) = (Arc::clone(context), user.clone());
        async move { ask(&context, &host, &user, force).await }
    });
    let (mut consenting, mut refusals) = (Vec::new(), Vec::new());
    for (host, result) in results.await {
        match result {
            Ok(channel) => consenting.push((host, channel)),
            Err(error) => refusals.push((host, error)),
        }
    }
    fanout::sum(refusals).map(|()| consenting)
}

/// The name of the current user.
///
/// # Errors
/// The user has no valid certificate with the role operator.
pub(crate) fn operator(context: &Context, verb: &str) -> Result<String> {
    Ok(context.fleet.user_with(Role::Operator, verb, SystemTime::now())?.user.name)
}

async fn ask(context: &Context, host: &Host, user: &str, force: bool) -> Result<Result<Channel>> {
    let (owner, channel) = match word_of(context, host).await? {
        Word::Said(channel, claim) => (claim.map(|claim| claim.user), Ok(channel)),
        Word::Silent(error) => (owner_by_tags(host, Timestamp::now().as_second()), Err(error)),
    };
    match owner.filter(|owner| !force && owner != user) {
        None => Ok(channel),
        Some(owner) => {
            Err(Error::new(Kind::Busy, format!("{} belongs to {owner}, not to {user}", host.name))
                .hint("--force overrides this"))
        }
    }
}

/// Asks a host who has claimed it, with a call that needs the role operator.
pub(crate) async fn word_of(context: &Context, host: &Host) -> Result<Word> {
    if host.state != HostState::Running || !host.enrolled() {
        let why = if host.enrolled() { "is stopped" } else { "was never enrolled" };
        return Ok(Word::Silent(Error::unreachable(format!("{} {why}", host.name))));
    }
    let channel = match context.connect(host).await {
        Ok(connected) => connected.channel,
        Err(error) if error.is_refusal() || error.kind() == Kind::Invalid => return Err(error),
        Err(error) => return Ok(Word::Silent(error)),
    };
    let now_unix_ms = Timestamp::now().as_millisecond();
    Ok(match claims::present(channel.clone(), &host.name).await? {
        Present::Nobody => Word::Said(channel, None),
        Present::Held(claim) => {
            let stands = claim::stands(&claim, now_unix_ms, holder::life);
            Word::Said(channel, Some(claim).filter(|_| stands))
        }
        Present::Unknown(error) => Word::Silent(error),
    })
}

/// The owner of a host according to its provider's tags; `now` is in seconds since the Unix epoch.
fn owner_by_tags(host: &Host, now: i64) -> Option<String> {
    let free = match host.usage.standing {
        Standing::Idle => true,
        Standing::Used => false,
        Standing::Launched | Standing::Claimed => ladder::is_abandoned(host, now, &holder::life),
    };
    (!free && !host.usage.owner.is_empty()).then(|| host.usage.owner.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::ladder::tests::{NOW, held, idle};

    #[test]
    fn the_owner_of_a_silent_host_comes_from_its_tags() {
        let mut used = idle("db-1");
        used.usage.owner = "ada".into();
        assert_eq!(owner_by_tags(&used, NOW), None, "released");
        used.usage.standing = Standing::Used;
        assert_eq!(owner_by_tags(&used, NOW).as_deref(), Some("ada"));
        used.usage.owner.clear();
        assert_eq!(owner_by_tags(&used, NOW), None, "no owner");
        let mut launched = held("db-2", Standing::Launched, &holder::this_process().expect("known"));
        launched.usage.owner = "ada".into();
        assert_eq!(owner_by_tags(&launched, NOW).as_deref(), Some("ada"), "its holder is alive");
    }
}
