//! Identities: roles, names in certificates, and the enrolment protocol `enrol/1`.
//!
//! - [`names`]: names of hosts and users in certificates,
//! - [`certificate`]: Magpie's own checks of a leaf, in addition to those of the TLS library,
//! - [`secret`]: 32 bytes that are never printed, and keys derived from them,
//! - [`document`]: the document that authorises enrolment of a host,
//! - [`userdata`]: passes the document to an EC2 instance,
//! - [`frame`] and [`enrol`]: the messages of `enrol/1` and their authentication codes,
//! - [`tls`]: settings that both ends of a connection must share.

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
