//! Frames of `enrol/1` are read back as they were, and nobody without the token gets a message past its seal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use proto::{
    identity::{
        certificate::KeyDigest,
        enrol::{SealError, Session},
        frame,
        secret::Secret,
    },
    pb::{EnrolCommitted, EnrolGrant, EnrolHello, Sealed},
};

/// Through a frame and back.
fn carried<M: Message + Default>(message: &M) -> M {
    let frame = frame::encode(message).expect("the input is shorter than the limit");
    let (header, body) = frame.split_first_chunk().expect("a header");
    assert_eq!(frame::length(*header).expect("it was written"), body.len());
    frame::decode(body).expect("it is whole")
}

fuzz_target!(|data: &[u8]| {
    let token = Secret::from_hex(&"5a".repeat(32)).expect("hex");
    let session = Session::new("0123", &token, [1; 32]);
    let key = KeyDigest::of(b"agent's public key");
    if let Ok(sealed) = frame::decode::<Sealed>(data) {
        assert_eq!(carried(&sealed), sealed);
        assert!(matches!(session.open_hello(&sealed, &key), Err(SealError::Proof)));
        assert!(matches!(session.open_grant(&sealed, &sealed), Err(SealError::Proof)));
    }
    if let Ok(hello) = frame::decode::<EnrolHello>(data) {
        let sealed = carried(&session.seal_hello(&hello, &key));
        assert_eq!(session.open_hello(&sealed, &key).expect("our own seal"), hello);
        assert!(session.open_grant(&sealed, &sealed).is_err(), "a message played back to its sender");
    }
    if let Ok(grant) = frame::decode::<EnrolGrant>(data) {
        let hello = session.seal_hello(&EnrolHello::default(), &key);
        let sealed = carried(&session.seal_grant(&grant, &hello));
        assert_eq!(session.open_grant(&sealed, &hello).expect("our own seal"), grant);
    }
    if let Ok(committed) = frame::decode::<EnrolCommitted>(data) {
        assert_eq!(carried(&committed), committed);
    }
    if let Some((header, _)) = data.split_first_chunk() {
        let length = u32::from_be_bytes(*header) as usize;
        assert_eq!(frame::length(*header).ok(), (length <= frame::LIMIT).then_some(length));
    }
});
