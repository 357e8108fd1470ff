//! Warnings about host certificates that expire soon, for `ctl hosts`. The provider does not know these dates, so `ctl`
//! asks the hosts that are old enough. Connecting also renews their certificates if possible.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use proto::units::counted;
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

/// A certificate lasts 90 days and is never older than its host, so a host younger than this has at least a month left.
const YOUNG_S: i64 = 60 * DAY_S;

/// Warn if less time than this is left, in seconds.
const SHORT_S: i64 = 30 * DAY_S;

/// Time limit for a host to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Prints a note for each host whose certificate expires within 30 days, or that does not answer.
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
            Err(error) => {
                Some(format!("cannot check when the certificate of {} expires: {error}", host.name))
            }
        };
        sentence.iter().for_each(|sentence| output.note(sentence));
    }
}

fn may_end_soon(host: &Host, now: Timestamp) -> bool {
    host.state == HostState::Running
        && host.enrolled()
        && now.as_second().saturating_sub(host.launched_at) > YOUNG_S
}

/// The warning, if one is due. `until_unix_ms` is 0 from agents that are too old for renewal.
fn short(name: &str, until_unix_ms: i64, now: Timestamp) -> Option<String> {
    let left = (until_unix_ms / 1000).saturating_sub(now.as_second());
    (until_unix_ms > 0 && left < SHORT_S).then(|| {
        format!(
            "the certificate of {name} expires in {}: `ctl status {name}` renews it, as an operator with host-ca.key",
            counted(left.max(0).unsigned_abs() / DAY_S.unsigned_abs(), "day")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_warning_in_the_last_month() {
        let now = Timestamp::from_second(1_000 * DAY_S).expect("a time");
        let until = |days: i64| (1_000 + days) * DAY_S * 1000;
        assert_eq!(short("db-1", until(30), now), None);
        assert_eq!(
            short("db-1", until(29), now).as_deref(),
            Some(
                "the certificate of db-1 expires in 29 days: `ctl status db-1` renews it, as an operator with host-ca.key"
            )
        );
        assert!(short("db-1", until(1), now).is_some_and(|warning| warning.contains("in 1 day:")));
        assert!(short("db-1", until(-1), now).is_some_and(|warning| warning.contains("in 0 days")));
        assert_eq!(short("db-1", 0, now), None, "an older agent does not report it");
    }
}
