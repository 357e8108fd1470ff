//! A generic netlink socket that receives task exits of some CPUs.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
            setsockopt, socket, sockopt,
        },
        time::TimeVal,
    },
};

use super::{
    Error,
    netlink::{ERROR, GENERIC_HEADER_BYTES, Message, attributes, messages, request, u16_at, u32_at},
};

/// GENL_ID_CTRL: the family that reports the numbers of the others.
const CONTROL: u16 = 0x10;
/// CTRL_CMD_GETFAMILY with CTRL_ATTR_FAMILY_NAME; the reply has CTRL_ATTR_FAMILY_ID.
const GET_FAMILY: u8 = 3;
const FAMILY_NAME: u16 = 2;
const FAMILY_ID: u16 = 1;
/// TASKSTATS_CMD_GET with TASKSTATS_CMD_ATTR_REGISTER_CPUMASK.
const GET: u8 = 1;
const REGISTER_CPUMASK: u16 = 3;
/// Timeout for the kernel's reply, which normally arrives before `send` returns.
const PATIENCE_S: i64 = 2;

/// A netlink socket.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// Opens a socket with a receive buffer of `bytes` bytes, or less if that is not permitted.
    pub(super) fn open(bytes: usize) -> Result<Self, Errno> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkGeneric,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        if setsockopt(&fd, sockopt::RcvBufForce, &bytes).is_err() {
            setsockopt(&fd, sockopt::RcvBuf, &bytes)?;
        }
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE_S, 0))?;
        Ok(Self(fd))
    }

    /// The next datagram; never waits.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
        let length = recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?;
        Ok(&buffer[..length])
    }

    /// The number of the family TASKSTATS.
    pub(super) fn family(&self) -> Result<u16, Error> {
        let id = |message: Message<'_>| {
            let body = message.payload.get(GENERIC_HEADER_BYTES..)?;
            attributes(body).find(|(kind, _)| *kind == FAMILY_ID).and_then(|(_, value)| u16_at(value, 0))
        };
        match self.ask(&request(CONTROL, GET_FAMILY, FAMILY_NAME, b"TASKSTATS\0"), CONTROL, id) {
            Ok(Some(family)) => Ok(family),
            Ok(None) | Err(Errno::ENOENT) => Err(Error::Absent),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Subscribes to exits on the CPUs of a list like `0-3,8`.
    pub(super) fn register(&self, family: u16, mask: &str) -> Result<(), Error> {
        let mask = format!("{mask}\0");
        let asked = self.ask(&request(family, GET, REGISTER_CPUMASK, mask.as_bytes()), ERROR, |_| None::<()>);
        asked.map(drop).map_err(|errno| match errno {
            // kernel/taskstats.c, add_del_listener.
            Errno::EINVAL => Error::Namespace,
            Errno::EPERM | Errno::EACCES => Error::Refused(errno),
            errno => errno.into(),
        })
    }

    /// Sends a request and reads until its acknowledgement; returns what `wanted` finds in earlier messages of the
    /// given kind.
    fn ask<T>(
        &self,
        request: &[u8],
        kind: u16,
        wanted: impl Fn(Message<'_>) -> Option<T>,
    ) -> Result<Option<T>, Errno> {
        send(self.0.as_raw_fd(), request, MsgFlags::empty())?;
        let mut buffer = [0; 8192];
        let mut found = None;
        loop {
            let length = match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                // Exit messages of other tasks arrive meanwhile.
                Err(Errno::EINTR | Errno::ENOBUFS) => continue,
                received => received?,
            };
            for message in messages(&buffer[..length]) {
                if message.kind == ERROR {
                    let errno =
                        u32_at(message.payload, 0).map_or(0, |errno| errno.cast_signed().wrapping_neg());
                    return if errno == 0 { Ok(found) } else { Err(Errno::from_raw(errno)) };
                }
                if message.kind == kind && found.is_none() {
                    found = wanted(message);
                }
            }
        }
    }
}
