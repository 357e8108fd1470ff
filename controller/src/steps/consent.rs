//! Whether a user may stop, end, copy or give back a host. Its provider would do that for anybody who has the provider's rights; these
//! verbs look first at what the fleet's certificate allows, and at whose the host is.
//!
//! A host that runs is asked, by a call that takes the role operator. Where none answers (it is stopped, hangs, or was never
//! enrolled), a certificate counts that the fleet's user CA signed, that is valid now, and that has this role; and the provider's tags
//! say whose the host is. What a host that runs refuses is not done.

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

/// A host that may be changed, and the connection to it, or why there is none.
pub(crate) type Consenting = (Host, Result<Channel>);

/// What a host says of who has it.
pub(crate) enum Word {
    /// It answers; the claim that stands, if any.
    Said(Channel, Option<pb::Claim>),
    /// Nobody answers there who could be asked.
    Silent(Error),
}

/// Asks for all hosts before anything is done to one of them; `verb` is for the refusal.
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

/// The name of the user, who must be an operator.
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
        Some(owner) => Err(Error::new(Kind::Busy, format!("{} is {owner}'s, not {user}'s", host.name))
            .hint("--force does it all the same")),
    }
}

/// Asks a host who has it, by a call that readers may not make.
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

/// Whose a host is, as far as its provider knows; `now` is in seconds since the Unix epoch.
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
    fn tags_say_whose_a_silent_host_is() {
        let mut used = idle("db-1");
        used.usage.owner = "ada".into();
        assert_eq!(owner_by_tags(&used, NOW), None, "given back: she had it last");
        used.usage.standing = Standing::Used;
        assert_eq!(owner_by_tags(&used, NOW).as_deref(), Some("ada"));
        used.usage.owner.clear();
        assert_eq!(owner_by_tags(&used, NOW), None, "nobody's");
        let mut launched = held("db-2", Standing::Launched, &holder::this_process().expect("known"));
        launched.usage.owner = "ada".into();
        assert_eq!(owner_by_tags(&launched, NOW).as_deref(), Some("ada"), "she is at work on it");
    }
}
