//! `[roles.NAME]`: launch settings and lease of a role.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, de};

use super::Ec2Role;
use crate::{
    config::Kind,
    error::{Error, Result},
};

/// The settings of a role; missing settings come from the role that it extends.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleConfig {
    /// Role to inherit settings from.
    pub extends: Option<String>,
    /// Provider of the hosts; default: `[fleet] provider`.
    pub provider: Option<Kind>,
    /// Memory limit of local hosts in bytes.
    #[serde(default, deserialize_with = "memory")]
    pub memory: Option<u64>,
    /// How long a host is kept after its last use.
    pub lease: Option<Lease>,
    /// How long after its lease a host shuts itself down; default: never.
    #[serde(default, deserialize_with = "duration")]
    pub stop_after_lease: Option<Duration>,
    /// Launch settings for EC2.
    #[serde(default)]
    pub ec2: Ec2Role,
}

/// How long a host is kept after its last use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// For this long.
    For(Duration),
    /// Until a user destroys it.
    Unlimited,
}

impl Default for Lease {
    fn default() -> Self {
        Self::For(Duration::from_secs(7 * 24 * 3600))
    }
}

impl<'de> Deserialize<'de> for Lease {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "none" {
            return Ok(Self::Unlimited);
        }
        parse_duration(&text).map(Self::For).map_err(de::Error::custom)
    }
}

fn memory<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<u64>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| crate::config::parse_memory(&text).map_err(de::Error::custom)).transpose()
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse_duration(&text).map_err(de::Error::custom)).transpose()
}

/// Parses `30m`, `12h`, `7d`, and sums of these such as `1h 30m`; a day has 24 hours.
pub fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time such as 30m, 12h or 7d");
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let seconds = span.total((jiff::Unit::Second, jiff::SpanRelativeTo::days_are_24_hours()));
    let seconds = seconds.map_err(|_| wrong())?;
    if (1.0..=1e9).contains(&seconds) { Ok(Duration::from_secs_f64(seconds)) } else { Err(wrong()) }
}

impl RoleConfig {
    /// Fills missing settings from `parent`.
    fn inherit(&mut self, parent: &Self) {
        self.provider = self.provider.or(parent.provider);
        self.memory = self.memory.or(parent.memory);
        self.lease = self.lease.or(parent.lease);
        self.stop_after_lease = self.stop_after_lease.or(parent.stop_after_lease);
        self.ec2.inherit(&parent.ec2);
    }
}

/// Fills the missing settings of every role from the roles that it extends.
///
/// # Errors
/// A role extends a missing role, or itself through other roles.
pub(super) fn resolve(written: &BTreeMap<String, RoleConfig>) -> Result<BTreeMap<String, RoleConfig>> {
    let mut roles = written.clone();
    for (name, role) in &mut roles {
        let mut seen = vec![name.as_str()];
        let mut next = role.extends.clone();
        while let Some(parent) = next {
            let (parent, settings) = written.get_key_value(&parent).ok_or_else(|| {
                Error::invalid(format!(
                    "[roles.{}] extends {parent:?}, which does not exist",
                    seen.last().unwrap_or(&"")
                ))
            })?;
            if seen.contains(&parent.as_str()) {
                return Err(Error::invalid(format!(
                    "[roles.{name}] extends itself, through {}",
                    seen.join(", ")
                )));
            }
            role.inherit(settings);
            seen.push(parent);
            next = settings.extends.clone();
        }
    }
    Ok(roles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_sums_of_units() {
        assert_eq!(parse_duration("90m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(parse_duration("1h 30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "0s", "-1h", "1", "soon", "1 month", "100000000d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    fn roles(text: &str) -> Result<BTreeMap<String, RoleConfig>> {
        resolve(&toml::from_str(text).expect("TOML"))
    }

    #[test]
    fn a_role_inherits_from_the_role_it_extends() {
        let roles = roles(
            "[base]\nmemory = \"1G\"\nlease = \"none\"\n[db]\nextends = \"base\"\nmemory = \"2G\"\n\
             [replica]\nextends = \"db\"\nstop_after_lease = \"1h\"\n",
        )
        .expect("good");
        let replica = &roles["replica"];
        assert_eq!((replica.memory, replica.lease), (Some(2 << 30), Some(Lease::Unlimited)));
        assert_eq!(roles["db"].stop_after_lease, None);
    }

    #[test]
    fn missing_and_circular_parents_are_errors() {
        let error = roles("[a]\nextends = \"b\"\n").expect_err("missing").to_string();
        assert_eq!(error, "[roles.a] extends \"b\", which does not exist");
        let error = roles("[a]\nextends = \"b\"\n[b]\nextends = \"a\"\n").expect_err("circle").to_string();
        assert!(error.contains("extends itself"), "{error}");
    }
}
