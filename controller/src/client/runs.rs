//! Starting, following, cancelling and listing runs.

use jiff::{Timestamp, tz::TimeZone};
use prost::Message;
use proto::{
    pb::{self, RunState, event::What, runs_client::RunsClient},
    run::is_over,
};
use tonic::{Code, Status, transport::Channel};

use super::{
    MAX_MESSAGE,
    status::{self, ANSWER, LONG_ANSWER, within},
};
use crate::error::{Error, Kind, Result};

/// The largest event to accept, in bytes; events in an agent's spool are at most 4 MiB.
const MAX_EVENT: usize = 5 << 20;

/// Why following a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Followed {
    /// The run has ended.
    Ended(Box<pb::Run>),
    /// The connection was lost and the run continues. Follow it again from `offset`, over a new connection.
    Disconnected {
        /// Spool offset to resume at.
        offset: u64,
    },
}

/// Starts a run on a host; safe to retry with the same request.
///
/// # Errors
/// [`Kind::Busy`], naming the holder, if another apply is running; otherwise the host's error.
pub async fn start(channel: Channel, host_name: &str, request: pb::StartRequest) -> Result<pb::Run> {
    let started = within(LONG_ANSWER, client(channel).start(request)).await;
    started.map_err(|refused| match busy_detail(&refused) {
        Some(busy) => busy_error(host_name, &busy, &TimeZone::system()),
        None => status::error(host_name, &refused),
    })
}

/// Follows a run from an offset until it ends, passing each event to `on_event`.
///
/// # Errors
/// The host's error, such as an unknown run. A lost connection is not an error.
pub async fn follow(
    channel: Channel,
    host_name: &str,
    run_id: &str,
    mut offset: u64,
    mut on_event: impl FnMut(pb::Event),
) -> Result<Followed> {
    let mut client = client(channel).max_decoding_message_size(MAX_EVENT);
    let request = pb::AttachRequest { run_id: run_id.to_owned(), offset };
    let mut events = match within(ANSWER, client.attach(request)).await {
        Ok(events) => events,
        Err(failure) => return disconnected(host_name, &failure, offset),
    };
    loop {
        match events.message().await {
            Ok(Some(event)) => {
                offset = event.next_offset;
                let last = is_last(&event);
                on_event(event);
                if last {
                    break;
                }
            }
            Ok(None) => break,
            Err(failure) => return disconnected(host_name, &failure, offset),
        }
    }
    match within(ANSWER, client.get(pb::GetRequest { run_id: run_id.to_owned() })).await {
        Ok(run) if is_over(run.state()) => Ok(Followed::Ended(Box::new(run))),
        // The stream ended early, for example because the agent was stopped.
        Ok(_) => Ok(Followed::Disconnected { offset }),
        Err(failure) => disconnected(host_name, &failure, offset),
    }
}

/// Asks a host to cancel a run; returns its current state without waiting.
///
/// # Errors
/// The host's error.
pub async fn cancel(channel: Channel, host_name: &str, run_id: &str) -> Result<pb::Run> {
    let request = pb::CancelRequest { run_id: run_id.to_owned() };
    let cancelled = within(ANSWER, client(channel).cancel(request)).await;
    cancelled.map_err(|refused| status::error(host_name, &refused))
}

/// One run of a host.
///
/// # Errors
/// The host's error.
pub async fn get(channel: Channel, host_name: &str, run_id: &str) -> Result<pb::Run> {
    let got = within(ANSWER, client(channel).get(pb::GetRequest { run_id: run_id.to_owned() })).await;
    got.map_err(|refused| status::error(host_name, &refused))
}

/// The latest `limit` runs of a host, newest first.
///
/// # Errors
/// The host's error.
pub async fn list(channel: Channel, host_name: &str, limit: u32) -> Result<Vec<pb::Run>> {
    let listed = within(ANSWER, client(channel).list(pb::ListRequest { limit })).await;
    listed.map(|reply| reply.runs).map_err(|refused| status::error(host_name, &refused))
}

fn client(channel: Channel) -> RunsClient<Channel> {
    RunsClient::new(channel).max_decoding_message_size(MAX_MESSAGE)
}

fn is_last(event: &pb::Event) -> bool {
    match event.what {
        Some(What::Summary(_)) => true,
        Some(What::State(state)) => state == RunState::Interrupted as i32,
        _ => false,
    }
}

/// Treats a lost connection as [`Followed::Disconnected`]; every other failure is an error.
fn disconnected(host_name: &str, failure: &Status, offset: u64) -> Result<Followed> {
    match failure.code() {
        Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Aborted => {
            Ok(Followed::Disconnected { offset })
        }
        _ => Err(status::error(host_name, failure)),
    }
}

fn busy_detail(status: &Status) -> Option<pb::Busy> {
    let carries = status.code() == Code::FailedPrecondition && !status.details().is_empty();
    carries.then(|| pb::Busy::decode(status.details()).ok())?
}

fn busy_error(host_name: &str, busy: &pb::Busy, zone: &TimeZone) -> Error {
    let since = Timestamp::from_millisecond(busy.started_unix_ms).unwrap_or_default();
    let since = since.to_zoned(zone.clone()).strftime("%H:%M:%S");
    let at = if busy.resource.is_empty() { String::new() } else { format!(", at {}", busy.resource) };
    let holder = format!("{host_name} is busy: apply {} by {} since {since}{at}", busy.run_id, busy.user);
    Error::new(Kind::Busy, holder)
        .hint(format!("`ctl attach {id}` follows it, `ctl cancel {id}` cancels it", id = busy.run_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_host_names_its_holder() {
        let busy = pb::Busy {
            run_id: "r-7".into(),
            user: "alice".into(),
            started_unix_ms: 43_384_000,
            resource: "Package[postgresql]".into(),
        };
        let status = Status::with_details(Code::FailedPrecondition, "busy", busy.encode_to_vec().into());
        let error = busy_error("db-1", &busy_detail(&status).unwrap(), &TimeZone::UTC);
        assert_eq!(error.kind(), Kind::Busy);
        assert_eq!(
            error.to_string(),
            "db-1 is busy: apply r-7 by alice since 12:03:04, at Package[postgresql]"
        );
        assert!(error.hints()[0].contains("attach r-7"));
        assert!(busy_detail(&Status::failed_precondition("something else")).is_none());
    }

    #[test]
    fn a_lost_connection_keeps_the_offset_and_a_refusal_is_an_error() {
        let lost = disconnected("db-1", &Status::unavailable("gone"), 77).unwrap();
        assert_eq!(lost, Followed::Disconnected { offset: 77 });
        assert!(disconnected("db-1", &Status::not_found("there is no run r"), 0).is_err());
    }
}
