//! The authentication codes that bind M1 and M2 of `enrol/1` to one TLS connection.
//!
//! Both ends know the token of the transaction and prove that to each other without sending it. The proof covers
//! keying material exported by TLS (RFC 8446 §7.5, the idea of RFC 9266). A man in the middle has two connections
//! with different material and therefore cannot forward anything.
//!
//! ```text
//! EK  = TLS-Exporter("EXPORTER-magpie-enrol-v1", context = tid, 32 bytes)
//! K_a = HKDF-SHA256(salt = tid, ikm = token, info = "agent"),  K_c likewise with "controller"
//! M1  agent → controller      HMAC(K_a, EK ‖ SHA256(agent's public key) ‖ SHA256(M1))
//! M2  controller → agent      HMAC(K_c, EK ‖ SHA256(M1) ‖ SHA256(M2))
//! M3  agent → controller      the serial number of the certificate now in use
//! ```

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, hmac};
use prost::Message;
use rustls::ConnectionCommon;

use super::{
    certificate::KeyDigest,
    frame::{self, FrameError},
    secret::Secret,
};
use crate::pb::{EnrolGrant, EnrolHello, Sealed};

/// Length of the nonce in M1, in bytes.
pub const NONCE_LEN: usize = 32;

/// Keying material of one TLS connection; known only to its two ends.
pub type Exporter = [u8; 32];

/// Exports a connection's keying material for transaction `tid`.
///
/// # Errors
/// If the handshake is not complete.
pub fn exporter<Data>(connection: &ConnectionCommon<Data>, tid: &str) -> Result<Exporter, rustls::Error> {
    connection.export_keying_material([0; 32], b"EXPORTER-magpie-enrol-v1", Some(tid.as_bytes()))
}

/// Why a sealed message is refused.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The peer does not know the token, or is not the other end of this connection.
    #[error("the peer could not prove on this connection that it knows the enrolment token")]
    Proof,
    /// The peer knows the token, but the message is malformed.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// The proofs of one transaction on one connection.
pub struct Session {
    agent: hmac::Key,
    controller: hmac::Key,
    exporter: Exporter,
}

impl Session {
    /// Derives the keys of both ends.
    pub fn new(tid: &str, token: &Secret, exporter: Exporter) -> Self {
        let key = |end: &[u8]| {
            let derived = token.derive(tid.as_bytes(), &[end]);
            hmac::Key::new(hmac::HMAC_SHA256, derived.as_bytes())
        };
        Self { agent: key(b"agent"), controller: key(b"controller"), exporter }
    }

    /// Seals M1: the agent proves knowledge of the token and binds its key.
    pub fn seal_hello(&self, hello: &EnrolHello, agent_key: &KeyDigest) -> Sealed {
        seal(&self.agent, self.parts(agent_key.as_bytes()), hello.encode_to_vec())
    }

    /// Verifies M1, then decodes it.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn open_hello(&self, sealed: &Sealed, agent_key: &KeyDigest) -> Result<EnrolHello, SealError> {
        open(&self.agent, self.parts(agent_key.as_bytes()), sealed)?;
        Ok(frame::decode(&sealed.message)?)
    }

    /// Seals M2: the controller answers exactly this M1.
    pub fn seal_grant(&self, grant: &EnrolGrant, hello: &Sealed) -> Sealed {
        seal(&self.controller, self.parts(sha256(&hello.message).as_ref()), grant.encode_to_vec())
    }

    /// Verifies M2, then decodes it.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn open_grant(&self, sealed: &Sealed, hello: &Sealed) -> Result<EnrolGrant, SealError> {
        open(&self.controller, self.parts(sha256(&hello.message).as_ref()), sealed)?;
        Ok(frame::decode(&sealed.message)?)
    }

    /// The bytes before the message's own digest; every part has 32 bytes, so the boundaries are unambiguous.
    fn parts(&self, binding: &[u8]) -> [u8; 64] {
        let mut parts = [0; 64];
        parts[..32].copy_from_slice(&self.exporter);
        parts[32..].copy_from_slice(binding);
        parts
    }
}

fn code(key: &hmac::Key, parts: [u8; 64], message: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(&parts);
    context.update(sha256(message).as_ref());
    context.sign()
}

fn seal(key: &hmac::Key, parts: [u8; 64], message: Vec<u8>) -> Sealed {
    let mac = code(key, parts, &message).as_ref().to_vec();
    Sealed { message, mac }
}

fn open(key: &hmac::Key, parts: [u8; 64], sealed: &Sealed) -> Result<(), SealError> {
    let expected = code(key, parts, &sealed.message);
    verify_slices_are_equal(expected.as_ref(), &sealed.mac).map_err(|_| SealError::Proof)
}

fn sha256(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TID: &str = "0123";

    fn key() -> KeyDigest {
        KeyDigest::of(b"agent's public key")
    }

    fn session(token: u8, exporter: u8) -> Session {
        let token = Secret::from_hex(&format!("{token:02x}").repeat(32)).expect("hex");
        Session::new(TID, &token, [exporter; 32])
    }

    fn hello() -> EnrolHello {
        EnrolHello {
            tid: TID.to_owned(),
            nonce: vec![1; NONCE_LEN],
            csr: vec![2; 300],
            agent_version: "0.1.0".to_owned(),
            machine_id: "m".to_owned(),
            boot_id: "b".to_owned(),
            time_unix_ms: 1_800_000_000_000,
        }
    }

    fn grant() -> EnrolGrant {
        EnrolGrant {
            nonce: vec![1; NONCE_LEN],
            host_id: "db-1".to_owned(),
            fleet_id: "f".to_owned(),
            certificates: vec![vec![3; 400], vec![4; 400]],
            user_ca: vec![5; 400],
            time_unix_ms: 1_800_000_000_001,
        }
    }

    #[test]
    fn both_ends_agree() {
        let (agent, controller) = (session(1, 1), session(1, 1));
        let m1 = agent.seal_hello(&hello(), &key());
        assert_eq!(controller.open_hello(&m1, &key()).expect("M1 holds"), hello());
        let m2 = controller.seal_grant(&grant(), &m1);
        assert_eq!(agent.open_grant(&m2, &m1).expect("M2 holds"), grant());
    }

    #[test]
    fn every_binding_counts() {
        let good = session(1, 1);
        let m1 = good.seal_hello(&hello(), &key());
        let m2 = good.seal_grant(&grant(), &m1);
        for other in [session(2, 1), session(1, 2)] {
            assert!(matches!(other.open_hello(&m1, &key()), Err(SealError::Proof)));
            assert!(matches!(other.open_grant(&m2, &m1), Err(SealError::Proof)));
        }
        assert!(matches!(good.open_hello(&m1, &KeyDigest::of(b"another")), Err(SealError::Proof)));
        let other_m1 = good.seal_hello(&EnrolHello { nonce: vec![9; NONCE_LEN], ..hello() }, &key());
        assert!(matches!(good.open_grant(&m2, &other_m1), Err(SealError::Proof)));
        // A message cannot be replayed to its sender as the other end's message.
        assert!(matches!(good.open_grant(&m1, &m1), Err(SealError::Proof)));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let session = session(1, 1);
            let flip = |sealed: &Sealed| {
                let mut flipped = sealed.clone();
                let at = at.index(flipped.message.len() + flipped.mac.len());
                match at.checked_sub(flipped.message.len()) {
                    None => flipped.message[at] ^= 1 << bit,
                    Some(at) => flipped.mac[at] ^= 1 << bit,
                }
                flipped
            };
            let m1 = session.seal_hello(&hello(), &key());
            let m2 = session.seal_grant(&grant(), &m1);
            prop_assert!(matches!(session.open_hello(&flip(&m1), &key()), Err(SealError::Proof)));
            prop_assert!(matches!(session.open_grant(&flip(&m2), &m1), Err(SealError::Proof)));
        }

        #[test]
        fn no_length_of_code_is_taken_for_the_right_one(length in 0_usize..64) {
            let session = session(1, 1);
            let mut m1 = session.seal_hello(&hello(), &key());
            m1.mac.resize(length, 0);
            prop_assert_eq!(session.open_hello(&m1, &key()).is_ok(), length == 32);
        }
    }
}
