//! What both ends of a connection must set alike.

use std::sync::Arc;

use rustls::{SupportedProtocolVersion, crypto::CryptoProvider};

/// The application protocol (ALPN, RFC 7301) of a host that is not enrolled yet.
pub const ALPN_ENROL: &[u8] = b"magpie-enrol/1";

/// The application protocol of a host that is enrolled: HTTP/2 (RFC 9113 §3.2).
pub const ALPN_MAIN: &[u8] = b"h2";

/// TLS 1.3 and nothing older.
pub const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// The one implementation of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
