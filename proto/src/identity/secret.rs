//! 32 secret bytes: never printed, erased on drop.

use std::fmt;

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    error::Unspecified,
    hkdf::{HKDF_SHA256, Salt},
    rand,
};
use zeroize::{Zeroize, Zeroizing};

use super::names;
use crate::lower_hex;

/// A key or token of 256 bits.
#[derive(Clone)]
pub struct Secret([u8; Self::LEN]);

impl Secret {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// A new secret from the system's random generator.
    ///
    /// # Errors
    /// If the generator fails.
    pub fn generate() -> Result<Self, Unspecified> {
        let mut secret = Self([0; Self::LEN]);
        rand::fill(&mut secret.0)?;
        Ok(secret)
    }

    /// Parses 64 lower-case hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut secret = Self([0; Self::LEN]);
        lower_hex::decode(text, &mut secret.0).then_some(secret)
    }

    /// 64 lower-case hex digits, which are secret as well.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(lower_hex::encode(&self.0))
    }

    /// The secret bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The enrolment token of transaction `tid`, if `self` is the fleet's enrol key. Every controller of the fleet
    /// can compute the token, so no controller has to store it.
    pub fn token(&self, tid: &str) -> Self {
        debug_assert!(names::is_tid(tid), "a tid is checked where it enters");
        self.derive(&[], &[b"magpie enrol token v1 ", tid.as_bytes()])
    }

    /// HKDF-SHA-256 (RFC 5869).
    pub(super) fn derive(&self, salt: &[u8], info: &[&[u8]]) -> Self {
        let mut derived = Self([0; Self::LEN]);
        Salt::new(HKDF_SHA256, salt)
            .extract(&self.0)
            .expand(info, HKDF_SHA256)
            .and_then(|material| material.fill(&mut derived.0))
            .expect("32 bytes are less than HKDF's limit of 255 blocks");
        derived
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Secret {}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn hex_is_read_back(bytes: [u8; 32]) {
            let secret = Secret(bytes);
            prop_assert_eq!(Secret::from_hex(&secret.to_hex()), Some(secret));
        }

        #[test]
        fn only_64_lower_case_digits_are_read(text in ".{0,70}|[0-9a-fA-F]{60,68}") {
            let valid = text.len() == 64 && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
            prop_assert_eq!(Secret::from_hex(&text).is_some(), valid);
        }
    }

    #[test]
    fn nothing_shows_in_debug() {
        let secret = Secret([0x42; 32]);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }

    #[test]
    fn tokens_differ_by_tid_and_are_stable() {
        let key = Secret([7; 32]);
        assert_eq!(key.token("a"), key.token("a"));
        assert_ne!(key.token("a"), key.token("b"));
        // The derivation is part of the contract: controllers of different versions must agree. The value was
        // computed with another implementation of RFC 5869.
        assert_eq!(
            *key.token("a").to_hex(),
            "b8cee21c116d048b0faa68f8c2a73240b5990d672ba3280511af6222e247dee7"
        );
    }
}
