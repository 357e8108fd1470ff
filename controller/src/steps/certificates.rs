//! Hosts whose own certificate ends soon. `ctl hosts` asks the provider alone, which does not know; the hosts that may be
//! concerned are asked beside, and connecting to them renews what we can renew.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::timeout;

use crate::{
    client,
    context::Context,
    error::Error,
    fanout,
    provider::{Host, HostState},
    render::Output,
};

const DAY_S: i64 = 24 * 60 * 60;

/// A certificate lasts 90 days and is never older than its host, so that a younger host has a month left.
const YOUNG_S: i64 = 60 * DAY_S;

/// With less left it is worth a warning.
const SHORT_S: i64 = 30 * DAY_S;

/// How long a host may take to say it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Notes the hosts whose certificate ends within a month, and those that do not say.
pub(crate) async fn warn(context: &Arc<Context>, hosts: &[Host], output: &Output) {
    let now = Timestamp::now();
    let old: Vec<Host> = hosts.iter().filter(|host| may_end_soon(host, now)).cloned().collect();
    let asked = fanout::each(old, |host| {
        let context = Arc::clone(context);
        async move {
            let asking = async {
                let channel = context.connect_now(&host).await?.channel;
                client::status::ask(channel, &host.name).await
            };
            let silent = || Error::unreachable(format!("{} does not answer", host.name));
            timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err(silent()))
        }
    });
    for (host, answer) in asked.await {
        let sentence = match answer {
            Ok(status) => short(&host.name, status.certificate_until_unix_ms, now),
            Err(error) => Some(format!("when the certificate of {} ends is not known: {error}", host.name)),
        };
        sentence.iter().for_each(|sentence| output.note(sentence));
    }
}

fn may_end_soon(host: &Host, now: Timestamp) -> bool {
    host.state == HostState::Running
        && host.enrolled()
        && now.as_second().saturating_sub(host.launched_at) > YOUNG_S
}

/// The warning, if one is due; an agent from before renewals says 0.
fn short(name: &str, until_unix_ms: i64, now: Timestamp) -> Option<String> {
    let left = (until_unix_ms / 1000).saturating_sub(now.as_second());
    (until_unix_ms > 0 && left < SHORT_S).then(|| {
        format!(
            "the certificate of {name} ends in {} days: an operator's ctl whose CA directory has host-ca.key renews it",
            left.max(0) / DAY_S
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_before_the_end_there_is_a_warning() {
        let now = Timestamp::from_second(1_000 * DAY_S).expect("a time");
        let until = |days: i64| (1_000 + days) * DAY_S * 1000;
        assert_eq!(short("db-1", until(30), now), None);
        assert_eq!(
            short("db-1", until(29), now).as_deref(),
            Some(
                "the certificate of db-1 ends in 29 days: an operator's ctl whose CA directory has host-ca.key renews it"
            )
        );
        assert!(short("db-1", until(-1), now).is_some_and(|warning| warning.contains("in 0 days")));
        assert_eq!(short("db-1", 0, now), None, "an older agent does not say");
    }
}
