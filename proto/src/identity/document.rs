//! The enrol document: authorises enrolment of a host. The provider writes it, readable only by root.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{certificate::KeyDigest, names, secret::Secret};

/// The supported version.
const VERSION: u32 = 1;

/// How long a new document is valid: enough for a boot, too short to be worth stealing.
pub const LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Everything a fresh host needs to recognise its fleet's controllers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Transaction id; also a tag of the host at its provider.
    pub tid: String,
    /// Secret shared by this host and the fleet's controllers; never sent over the network.
    pub token: Secret,
    /// Digest of the public key of the CA that signs the fleet's users.
    pub user_ca_pin: KeyDigest,
    /// When the document expires.
    pub expires: SystemTime,
}

/// Why a document is refused.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or a field is missing or unknown.
    #[error("the enrol document is malformed: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Written by a newer controller.
    #[error("the enrol document has version {0}, but this agent supports only version {VERSION}")]
    Version(u32),
    /// A field has an invalid value.
    #[error("the enrol document is malformed: {0} is not valid")]
    Field(&'static str),
    /// Too old, or the clock is wrong.
    #[error("the enrol document expired at {expires}, but the clock is at {now} (both in Unix seconds)")]
    Expired {
        /// Time of expiry, in Unix seconds.
        expires: u64,
        /// Current time, in Unix seconds.
        now: u64,
    },
}

/// The JSON form. Borrows its strings, so that no copy of the token remains in memory.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    v: u32,
    tid: &'a str,
    token: &'a str,
    user_ca_pin: &'a str,
    /// Unix seconds.
    expires: u64,
}

/// Read first, to distinguish a newer version from a malformed document.
#[derive(Deserialize)]
struct Versioned {
    v: u32,
}

impl Document {
    /// The document as JSON, which is secret.
    ///
    /// # Errors
    /// If `expires` is before 1970.
    pub fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, DocumentError> {
        let expires = unix_seconds(self.expires).ok_or(DocumentError::Field("expires"))?;
        let token = self.token.to_hex();
        let pin = self.user_ca_pin.to_string();
        let wire = Wire { v: VERSION, tid: &self.tid, token: &token, user_ca_pin: &pin, expires };
        Ok(Zeroizing::new(serde_json::to_vec(&wire)?))
    }

    /// Parses the output of [`Document::to_json`].
    ///
    /// # Errors
    /// Any error except [`DocumentError::Expired`]: see [`Document::check`].
    pub fn from_json(json: &[u8]) -> Result<Self, DocumentError> {
        let Versioned { v } = serde_json::from_slice(json)?;
        if v != VERSION {
            return Err(DocumentError::Version(v));
        }
        let wire: Wire<'_> = serde_json::from_slice(json)?;
        if !names::is_tid(wire.tid) {
            return Err(DocumentError::Field("tid"));
        }
        Ok(Self {
            tid: wire.tid.to_owned(),
            token: Secret::from_hex(wire.token).ok_or(DocumentError::Field("token"))?,
            user_ca_pin: wire.user_ca_pin.parse().map_err(|_| DocumentError::Field("user_ca_pin"))?,
            expires: UNIX_EPOCH
                .checked_add(Duration::from_secs(wire.expires))
                .ok_or(DocumentError::Field("expires"))?,
        })
    }

    /// Refuses an expired document.
    ///
    /// # Errors
    /// [`DocumentError::Expired`].
    pub fn check(&self, now: SystemTime) -> Result<(), DocumentError> {
        if now < self.expires {
            return Ok(());
        }
        let seconds = |time| unix_seconds(time).unwrap_or_default();
        Err(DocumentError::Expired { expires: seconds(self.expires), now: seconds(now) })
    }
}

fn unix_seconds(time: SystemTime) -> Option<u64> {
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document() -> Document {
        Document {
            tid: "0123456789abcdef".to_owned(),
            token: Secret::generate().expect("a generator"),
            user_ca_pin: KeyDigest::of(b"key"),
            expires: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        }
    }

    proptest! {
        #[test]
        fn a_document_is_read_back(tid in "[a-z0-9-]{1,64}", key: [u8; 8], expires in 0_u64..1 << 40) {
            let expires = UNIX_EPOCH + Duration::from_secs(expires);
            let document = Document { tid, user_ca_pin: KeyDigest::of(&key), expires, ..document() };
            let json = document.to_json().expect("it is written");
            prop_assert_eq!(Document::from_json(&json).expect("it is read"), document);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = Document::from_json(&bytes);
        }

        #[test]
        fn a_cut_document_is_refused(length in 0_usize..100) {
            let json = document().to_json().expect("it is written");
            prop_assert!(Document::from_json(&json[..length]).is_err());
        }
    }

    #[test]
    fn each_defect_is_named() {
        let json =
            String::from_utf8(document().to_json().expect("it is written").to_vec()).expect("JSON is UTF-8");
        let refusal = |from: &str, to: &str| {
            let changed = json.replace(from, to);
            assert_ne!(changed, json, "{from} was not in the document");
            Document::from_json(changed.as_bytes()).expect_err("it is refused").to_string()
        };
        assert!(refusal("\"v\":1", "\"v\":2").contains("version 2"));
        assert!(refusal("0123456789abcdef", "Upper").contains("tid"));
        assert!(refusal("\"token\":\"", "\"token\":\"0").contains("token"));
        assert!(refusal("sha256:", "sha1:").contains("user_ca_pin"));
        assert!(refusal("\"v\":1", "\"v\":1,\"more\":1").contains("more"));
    }

    #[test]
    fn it_expires_on_the_second() {
        let document = document();
        assert!(document.check(document.expires - Duration::from_secs(1)).is_ok());
        assert!(matches!(document.check(document.expires), Err(DocumentError::Expired { .. })));
    }

    #[test]
    fn the_token_does_not_show() {
        let document = document();
        assert!(!format!("{document:?}").contains(document.token.to_hex().as_str()));
    }
}
