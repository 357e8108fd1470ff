//! Asking a host for its record: blocks come as they lie on its disk.

use proto::pb::{Block, FollowRequest, InfoReply, InfoRequest, ReadRequest, history_client::HistoryClient};
use record::directory::Filter;
use tonic::{Code, Status, Streaming, transport::Channel};

use super::status::{self, ANSWER, within};
use crate::error::{Error, Result};

/// Longest block that is accepted: one record may be as long as a block's body.
const MAX_MESSAGE_BYTES: usize = record::MAX_BODY_BYTES;

/// Blocks that pass a filter, oldest first.
///
/// # Errors
/// What the host says.
pub async fn read(channel: Channel, host_name: &str, filter: &Filter) -> Result<Streaming<Block>> {
    let reply = within(ANSWER, client(channel).read(request(filter))).await;
    reply.map_err(|refused| failed(host_name, &refused))
}

/// What to ask a host for.
fn request(filter: &Filter) -> ReadRequest {
    ReadRequest {
        from_unix_ms: if filter.from_ms == i64::MIN { 0 } else { filter.from_ms },
        until_unix_ms: if filter.until_ms == i64::MAX { 0 } else { filter.until_ms },
        pids: filter.pids.iter().copied().collect(),
        contents: u32::from(filter.contents.0),
    }
}

/// The record from a wall time on, ms since the Unix epoch, without end; 0 is now.
///
/// # Errors
/// What the host says.
pub async fn follow(channel: Channel, host_name: &str, from_unix_ms: i64) -> Result<Streaming<Block>> {
    let reply = within(ANSWER, client(channel).follow(FollowRequest { from_unix_ms })).await;
    reply.map_err(|refused| failed(host_name, &refused))
}

/// What the record holds, without reading all of it.
///
/// # Errors
/// What the host says.
pub async fn info(channel: Channel, host_name: &str) -> Result<InfoReply> {
    let reply = within(ANSWER, client(channel).info(InfoRequest {})).await;
    reply.map_err(|refused| failed(host_name, &refused))
}

/// The error for a record that cannot be read, or not to its end.
pub fn failed(host_name: &str, refused: &Status) -> Error {
    match refused.code() {
        Code::Internal | Code::Unknown => {
            Error::unreachable(format!("{host_name}: cannot read the record: {}", refused.message()))
        }
        _ => status::error(host_name, refused),
    }
}

fn client(channel: Channel) -> HistoryClient<Channel> {
    HistoryClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_limited_is_not_asked_for() {
        assert_eq!(request(&Filter::default()), ReadRequest::default());
        let some = request(&Filter { pids: [9, 7].into(), ..Filter::between(5, 6) });
        assert_eq!((some.from_unix_ms, some.until_unix_ms, some.pids), (5, 6, vec![7, 9]));
    }
}
