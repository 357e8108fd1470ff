//! Reading a host's record: blocks come as they lie on its disk and are decoded here.

use proto::{
    history::{Block, Sample, Samples},
    pb::{self, FollowRequest, ReadRequest, history_client::HistoryClient},
};
use tonic::{Streaming, transport::Channel};

use crate::error::{Error, Kind, Result};

/// Longest block that is accepted: one record may be as long as a block's body.
const MAX_MESSAGE_BYTES: usize = proto::history::MAX_BODY_BYTES;

/// What a record holds, oldest first.
#[derive(Debug)]
pub enum Recorded {
    /// A sample. Samples just outside of the range asked for may be among them.
    Sample(Box<Sample>),
    /// A sentence about what is damaged or missing at this place.
    Lost(String),
}

/// A record on its way, decoded one sample at a time.
#[derive(Debug)]
pub struct Recording {
    stream: Streaming<pb::Block>,
    lost: std::vec::IntoIter<String>,
    data: Vec<u8>,
    samples: Option<Samples>,
}

/// The record between two wall times, ms since the Unix epoch; 0 is "as far as there is".
pub async fn read(channel: Channel, from_unix_ms: i64, until_unix_ms: i64) -> Result<Recording> {
    let request = ReadRequest { from_unix_ms, until_unix_ms };
    let reply = client(channel).read(request).await;
    Ok(Recording::new(reply.map_err(failed)?.into_inner()))
}

/// The record from a wall time on, without end; 0 is now.
pub async fn follow(channel: Channel, from_unix_ms: i64) -> Result<Recording> {
    let reply = client(channel).follow(FollowRequest { from_unix_ms }).await;
    Ok(Recording::new(reply.map_err(failed)?.into_inner()))
}

fn client(channel: Channel) -> HistoryClient<Channel> {
    HistoryClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

impl Recording {
    fn new(stream: Streaming<pb::Block>) -> Self {
        Self { stream, lost: Vec::new().into_iter(), data: Vec::new(), samples: None }
    }

    /// The next piece; `None` at the end. Damage is a piece, not an error.
    pub async fn next(&mut self) -> Result<Option<Recorded>> {
        loop {
            if let Some(sentence) = self.lost.next() {
                return Ok(Some(Recorded::Lost(sentence)));
            }
            if !self.data.is_empty() {
                let data = std::mem::take(&mut self.data);
                match Block::parse(&data).and_then(|block| block.samples()) {
                    Ok(samples) => self.samples = Some(samples),
                    Err(damage) => return Ok(Some(Recorded::Lost(unreadable(&damage)))),
                }
            }
            match self.samples.as_mut().and_then(Iterator::next) {
                Some(Ok(sample)) => return Ok(Some(Recorded::Sample(Box::new(sample)))),
                Some(Err(damage)) => return Ok(Some(Recorded::Lost(unreadable(&damage)))),
                None => self.samples = None,
            }
            let Some(block) = self.stream.message().await.map_err(failed)? else { return Ok(None) };
            self.lost = block.lost.into_iter();
            self.data = block.data;
        }
    }
}

fn unreadable(damage: &proto::history::Damage) -> String {
    format!("a block of history cannot be read: {damage}")
}

fn failed(status: tonic::Status) -> Error {
    let kind = match status.code() {
        tonic::Code::PermissionDenied | tonic::Code::InvalidArgument => Kind::Invalid,
        tonic::Code::Cancelled => Kind::Interrupted,
        _ => Kind::Unreachable,
    };
    Error::new(kind, status.message()).context("cannot read the record")
}
