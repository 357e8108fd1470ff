//! What both ends of a connection must set alike.

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

/// The application protocol (ALPN, RFC 7301) of a host that is not enrolled yet.
pub const ALPN_ENROL: &[u8] = b"magpie-enrol/1";

/// The application protocol of a host that is enrolled: HTTP/2 (RFC 9113 §3.2).
pub const ALPN_MAIN: &[u8] = b"h2";

/// TLS 1.3 and nothing older.
pub const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// The one implementation of cryptography. Keys are agreed on by a hybrid that stays secret when quantum computers
/// come (draft-ietf-tls-ecdhe-mlkem), else by the curves; listed here, lest it hang on the features of some dependency.
pub fn provider() -> Arc<CryptoProvider> {
    let kx_groups = vec![X25519MLKEM768, X25519, SECP256R1];
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}
