//! Communication between the processes of a launch: JSON lines over a Unix socket, and open files.

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    error::{Error, Result},
    provider::local::failure::{Doing, Failure},
};

/// One end of the socket.
#[derive(Debug)]
pub(crate) struct Channel(UnixStream);

/// A message: a value, or the sender's error.
#[derive(Serialize, Deserialize)]
enum Message<T> {
    Value(T),
    Failed(Failure),
}

impl Channel {
    /// Creates two connected ends.
    pub(super) fn pair() -> Result<(Self, Self)> {
        let (one, other) = UnixStream::pair().doing(|| "cannot create a socket pair")?;
        Ok((Self(one), Self(other)))
    }

    /// The end that this process inherited as its standard input.
    pub(crate) fn inherited() -> Result<Self> {
        let end = io::stdin().as_fd().try_clone_to_owned().doing(|| "cannot use standard input")?;
        Ok(Self(end.into()))
    }

    /// Sends a value.
    pub(crate) fn send<T: Serialize>(&self, value: T) -> Result<()> {
        self.write(&Message::Value(value))
    }

    /// Sends an error in place of the next value.
    pub(crate) fn send_error(&self, error: Error) -> Result<()> {
        self.write(&Message::<()>::Failed(error.into()))
    }

    fn write<T: Serialize>(&self, message: &Message<T>) -> Result<()> {
        let mut line = serde_json::to_vec(message).doing(|| "cannot encode a message")?;
        line.push(b'\n');
        (&self.0).write_all(&line).doing(|| "the other process is gone")
    }

    /// Waits for a value.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> Result<T> {
        self.next()?.ok_or_else(|| Error::unreachable("the other process exited without an answer"))
    }

    /// Waits until the other process has executed another program; returns its error if that failed.
    pub(crate) fn replaced(&self) -> Result<()> {
        self.next::<()>().map(drop)
    }

    /// The next value, or `None` at the end. Reads byte by byte, because raw data or an open file may follow.
    fn next<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            if (&self.0).read(&mut byte).doing(|| "cannot read from the other process")? == 0 {
                return Ok(None);
            }
            if byte == *b"\n" {
                break;
            }
            line.push(byte[0]);
        }
        match serde_json::from_slice(&line).doing(|| "cannot decode a message")? {
            Message::Value(value) => Ok(Some(value)),
            Message::Failed(failure) => Err(failure.into()),
        }
    }

    /// Sends open files, attached to a one-byte message (see unix(7), `SCM_RIGHTS`).
    pub(crate) fn send_files(&self, files: &[BorrowedFd<'_>]) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(files));
        sendmsg(&self.0, &[IoSlice::new(b"\0")], &mut ancillary, SendFlags::empty())
            .doing(|| "cannot hand over an open file")?;
        Ok(())
    }

    /// Receives the open files of one [`Channel::send_files`].
    pub(crate) fn receive_files(&self) -> Result<Vec<OwnedFd>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        recvmsg(&self.0, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            .doing(|| "cannot receive an open file")?;
        Ok(ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(files) => Some(files),
                _ => None,
            })
            .flatten()
            .collect())
    }

    /// The socket itself, for raw data after the messages.
    pub(crate) fn into_stream(self) -> UnixStream {
        self.0
    }

    /// Duplicates this end.
    pub(crate) fn try_clone(&self) -> Result<Self> {
        Ok(Self(self.0.try_clone().doing(|| "cannot duplicate a socket")?))
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0.into()
    }
}
