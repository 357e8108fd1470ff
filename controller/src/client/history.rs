//! Client of the History service: a host sends blocks as stored on its disk.

use proto::pb::{Block, FollowRequest, InfoReply, InfoRequest, ReadRequest, history_client::HistoryClient};
use record::directory::Filter;
use tonic::{Code, Status, Streaming, transport::Channel};

use super::status::{self, ANSWER, within};
use crate::error::{Error, Result};

/// Maximum size of a received block, in bytes: a single record may be as long as a block's body.
const MAX_MESSAGE_BYTES: usize = record::MAX_BODY_BYTES;

/// Requests the blocks that match a filter, oldest first.
///
/// # Errors
/// If the host refuses or does not answer.
pub async fn read(channel: Channel, host_name: &str, filter: &Filter) -> Result<Streaming<Block>> {
    let reply = within(ANSWER, client(channel).read(request(filter))).await;
    reply.map_err(|refused| failed(host_name, &refused))
}

/// Converts a filter to a request, in which 0 means no limit.
fn request(filter: &Filter) -> ReadRequest {
    ReadRequest {
        from_unix_ms: if filter.from_ms == i64::MIN { 0 } else { filter.from_ms },
        until_unix_ms: if filter.until_ms == i64::MAX { 0 } else { filter.until_ms },
        pids: filter.pids.iter().copied().collect(),
        contents: u32::from(filter.contents.0),
    }
}

/// Follows the record from a wall time on, ms since the Unix epoch, without end; 0 means from now on.
///
/// # Errors
/// If the host refuses or does not answer.
pub async fn follow(channel: Channel, host_name: &str, from_unix_ms: i64) -> Result<Streaming<Block>> {
    let reply = within(ANSWER, client(channel).follow(FollowRequest { from_unix_ms })).await;
    reply.map_err(|refused| failed(host_name, &refused))
}

/// Requests a summary of the record.
///
/// # Errors
/// If the host refuses or does not answer.
pub async fn info(channel: Channel, host_name: &str) -> Result<InfoReply> {
    let reply = within(ANSWER, client(channel).info(InfoRequest {})).await;
    reply.map_err(|refused| failed(host_name, &refused))
}

/// Converts a status to the error for a record that cannot be read completely.
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
