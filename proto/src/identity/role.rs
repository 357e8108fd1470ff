//! Roles, and the users who hold them.

use std::{fmt, str::FromStr};

/// Prefix of a role in the subject's organisation (O) of a user certificate.
const PREFIX: &str = "magpie:";

/// What a user may do. For RPCs, each role in the order below includes the previous ones; an [`Role::Enroller`] may
/// call no RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// May enrol hosts, and nothing else.
    Enroller,
    /// May read status, records, and runs that are not private.
    Reader,
    /// May push bundles and start, follow and cancel runs.
    Operator,
    /// May do everything, including enrolment.
    Admin,
}

impl Role {
    /// All roles, lowest first.
    pub const ALL: [Self; 4] = [Self::Enroller, Self::Reader, Self::Operator, Self::Admin];

    /// The name, such as `operator`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enroller => "enroller",
            Self::Reader => "reader",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The subject's organisation in a certificate, such as `magpie:operator`.
    pub fn organisation(self) -> String {
        format!("{PREFIX}{}", self.name())
    }

    /// The role of an organisation; `None` if it is not Magpie's.
    pub fn from_organisation(organisation: &str) -> Option<Self> {
        organisation.strip_prefix(PREFIX)?.parse().ok()
    }

    /// Whether the role may enrol hosts.
    pub fn may_enrol(self) -> bool {
        matches!(self, Self::Enroller | Self::Admin)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is not a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown role {0:?}; known roles: enroller, reader, operator, admin")]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.name() == name).ok_or_else(|| UnknownRole(name.to_owned()))
    }
}

/// The caller of an RPC, according to the leaf certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name in `magpie://<fleet-id>/user/<name>`.
    pub name: String,
    /// The role in the subject's organisation.
    pub role: Role,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_survives_its_organisation() {
        for role in Role::ALL {
            assert_eq!(Role::from_organisation(&role.organisation()), Some(role));
        }
    }

    #[test]
    fn foreign_organisations_hold_no_role() {
        for organisation in
            ["", "admin", "magpie:", "magpie:root", "magpie:Admin", "magpie:admin ", "Magpie:admin"]
        {
            assert_eq!(Role::from_organisation(organisation), None, "{organisation:?}");
        }
    }

    #[test]
    fn only_enrollers_and_admins_enrol() {
        let enrolling: Vec<_> = Role::ALL.into_iter().filter(|role| role.may_enrol()).collect();
        assert_eq!(enrolling, [Role::Enroller, Role::Admin]);
    }
}
