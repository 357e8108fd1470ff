//! Wire format of the messages of `enrol/1`: length as a big-endian `u32`, then that many bytes.
//!
//! This module does no I/O: callers read [`HEADER`] bytes, call [`length`], read the body, and call [`decode`].

use prost::Message;

/// Size of the length field, in bytes.
pub const HEADER: usize = 4;

/// Maximum size of a body, in bytes.
pub const LIMIT: usize = 64 * 1024;

/// Why a frame is refused.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The body is longer than [`LIMIT`].
    #[error("a message of {0} bytes exceeds enrol/1's limit of {LIMIT}")]
    TooLong(usize),
    /// The body is not the expected message.
    #[error("the peer does not speak enrol/1: {0}")]
    Malformed(#[from] prost::DecodeError),
}

/// Encodes a complete frame.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn encode(message: &impl Message) -> Result<Vec<u8>, FrameError> {
    let length = message.encoded_len();
    let header = u32::try_from(length).ok().filter(|_| length <= LIMIT).ok_or(FrameError::TooLong(length))?;
    let mut frame = header.to_be_bytes().to_vec();
    frame.extend(message.encode_to_vec());
    Ok(frame)
}

/// The length of the body after `header`, in bytes.
///
/// # Errors
/// [`FrameError::TooLong`], so that a peer cannot make us allocate more than [`LIMIT`].
pub fn length(header: [u8; HEADER]) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length <= LIMIT { Ok(length) } else { Err(FrameError::TooLong(length)) }
}

/// Decodes the message in a body.
///
/// # Errors
/// [`FrameError::Malformed`].
pub fn decode<M: Message + Default>(body: &[u8]) -> Result<M, FrameError> {
    Ok(M::decode(body)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pb::{EnrolCommitted, EnrolGrant, EnrolHello, Sealed};

    proptest! {
        #[test]
        fn a_frame_is_read_back(message in prop::collection::vec(any::<u8>(), 0..500), mac: [u8; 32]) {
            let sealed = Sealed { message, mac: mac.to_vec() };
            let frame = encode(&sealed).expect("it is short");
            let (header, body) = frame.split_first_chunk().expect("a header");
            prop_assert_eq!(length(*header).expect("it is short"), body.len());
            prop_assert_eq!(decode::<Sealed>(body).expect("it is whole"), sealed);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = decode::<Sealed>(&bytes);
            let _ = decode::<EnrolHello>(&bytes);
            let _ = decode::<EnrolGrant>(&bytes);
            let _ = decode::<EnrolCommitted>(&bytes);
        }
    }

    #[test]
    fn the_limit_holds_both_ways() {
        let serial = |length| EnrolCommitted { serial: vec![0; length] };
        // Tag and length of the field take four bytes.
        assert_eq!(encode(&serial(LIMIT - 4)).expect("just short enough").len(), HEADER + LIMIT);
        assert!(matches!(encode(&serial(LIMIT)), Err(FrameError::TooLong(_))));
        assert!(length([0, 1, 0, 0]).is_ok());
        assert!(matches!(length([0, 1, 0, 1]), Err(FrameError::TooLong(65537))));
        assert!(matches!(length([255; 4]), Err(FrameError::TooLong(_))));
    }
}
