//! Who may speak: roles, names in certificates, and the enrolment protocol `enrol/1`.
//!
//! - [`names`]: what hosts and users are called in certificates,
//! - [`certificate`]: our own checks of a leaf, beside those of the TLS library,
//! - [`secret`]: 32 bytes that are never printed, and keys derived from them,
//! - [`document`]: what a provider leaves on a host so that it may be enrolled,
//! - [`userdata`]: how that travels to an EC2 instance,
//! - [`frame`] and [`enrol`]: the messages of `enrol/1` and the codes that seal them,
//! - [`tls`]: what both ends of a connection must set alike.

pub mod certificate;
pub mod document;
pub mod enrol;
pub mod frame;
pub mod names;
mod role;
pub mod secret;
pub mod tls;
pub mod userdata;

pub use role::{Role, UnknownRole, User};
