//! Builds and parses netlink messages, without trusting any length.
//!
//! Layout: netlink(7), the kernel's include/uapi/linux/netlink.h and genetlink.h; everything is in native byte order,
//! and messages and attributes begin at multiples of four.

/// nlmsghdr: length u32, kind u16, flags u16, sequence u32, port u32.
const HEADER_BYTES: usize = 16;
/// genlmsghdr: command u8, version u8, reserved u16.
pub(super) const GENERIC_HEADER_BYTES: usize = 4;
/// nlattr: length u16 (including these four bytes), kind u16.
const ATTRIBUTE_BYTES: usize = 4;
/// NLA_TYPE_MASK: excludes the flags for nested and for network byte order.
const KIND_MASK: u16 = 0x3fff;
/// NLM_F_REQUEST | NLM_F_ACK.
const FLAGS: u16 = 0x05;

/// NLMSG_ERROR: the reply to a request, an errno (negative) or 0.
pub(super) const ERROR: u16 = 2;

/// A message in a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// NLMSG_ERROR, or the number of a family.
    pub(super) kind: u16,
    /// The sender's sequence number.
    pub(super) sequence: u32,
    /// The bytes after the header.
    pub(super) payload: &'a [u8],
}

/// A generic netlink request with one attribute and a request for acknowledgement.
pub(super) fn request(family: u16, command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    let attribute_length = ATTRIBUTE_BYTES + value.len();
    let mut message = vec![0; HEADER_BYTES + GENERIC_HEADER_BYTES];
    message[4..6].copy_from_slice(&family.to_ne_bytes());
    message[6..8].copy_from_slice(&FLAGS.to_ne_bytes());
    message[HEADER_BYTES] = command;
    message[HEADER_BYTES + 1] = 1;
    message.extend((attribute_length as u16).to_ne_bytes());
    message.extend(attribute.to_ne_bytes());
    message.extend(value);
    message.resize(aligned(message.len()), 0);
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message
}

/// The messages of a datagram, up to the first incomplete one.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let payload = bytes.get(HEADER_BYTES..length)?;
        let message = Message { kind: u16_at(bytes, 4)?, sequence: u32_at(bytes, 8)?, payload };
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some(message)
    })
}

/// Attributes as (kind, value), up to the first incomplete one.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let value = bytes.get(ATTRIBUTE_BYTES..length)?;
        let kind = u16_at(bytes, 2)? & KIND_MASK;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A number at an offset; `None` if the bytes are too short.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A number at an offset; `None` if the bytes are too short.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A number at an offset; `None` if the bytes are too short.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_request_reads_back(
            family: u16, command: u8, attribute in 0u16..0x4000, value in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let bytes = request(family, command, attribute, &value);
            let read: Vec<_> = messages(&bytes).collect();
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!((read[0].kind, read[0].payload[0]), (family, command));
            let inner: Vec<_> = attributes(&read[0].payload[GENERIC_HEADER_BYTES..]).collect();
            prop_assert_eq!(inner, vec![(attribute, value.as_slice())]);
        }

        #[test]
        fn any_bytes_are_harmless_and_end(bytes: Vec<u8>) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / HEADER_BYTES);
            prop_assert!(attributes(&bytes).count() <= bytes.len() / ATTRIBUTE_BYTES);
        }
    }
}
