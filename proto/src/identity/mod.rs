//! Who may speak: roles, names in certificates, and the enrolment protocol.

/// What a user may do; each role includes the ones before it, except [`Role::Enroller`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// May look: status, records, runs that are not private.
    Reader,
    /// May push bundles and start, follow and cancel runs.
    Operator,
    /// May do everything, enrolment included.
    Admin,
}

/// The caller of an RPC, taken from the leaf certificate and from nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name in `magpie://<fleet-id>/user/<name>`.
    pub name: String,
    /// The role in the subject's organisation.
    pub role: Role,
}
