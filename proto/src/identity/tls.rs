//! TLS settings that both ends of a connection must share.

use std::sync::Arc;

use rustls::{
    SupportedProtocolVersion,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{
            self,
            kx_group::{SECP256R1, X25519, X25519MLKEM768},
        },
    },
};

/// The application protocol (ALPN, RFC 7301) of a host before enrolment.
pub const ALPN_ENROL: &[u8] = b"magpie-enrol/1";

/// The application protocol of an enrolled host: HTTP/2 (RFC 9113 §3.2).
pub const ALPN_MAIN: &[u8] = b"h2";

/// Only TLS 1.3.
pub const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// The cryptography provider. The preferred key exchange is a hybrid that resists quantum computers
/// (draft-ietf-tls-ecdhe-mlkem), followed by elliptic curves; listed here so that the order does not depend on the
/// features of other crates.
pub fn provider() -> Arc<CryptoProvider> {
    let kx_groups = vec![X25519MLKEM768, X25519, SECP256R1];
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}
