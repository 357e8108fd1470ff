//! Leases: how long a host is kept after its last use.

use std::time::Duration;

use crate::config::{Lease, RoleConfig};

/// How long an unsettled claim lasts; longer than any first apply takes.
pub(crate) const UNSETTLED: Duration = Duration::from_secs(8 * 60 * 60);

/// The end of an unsettled claim taken at `now`, in seconds since the Unix epoch.
pub(crate) fn unsettled(now: i64) -> i64 {
    now.saturating_add_unsigned(UNSETTLED.as_secs())
}

/// The end of a role's lease that begins at `now`, in seconds since the Unix epoch; 0 if unlimited.
pub(crate) fn end(role: &RoleConfig, now: i64) -> i64 {
    match role.lease.unwrap_or_default() {
        Lease::For(time) => now.saturating_add_unsigned(time.as_secs()),
        Lease::Unlimited => 0,
    }
}

/// The new end of a lease after a use at `now`; `None` if less than a tenth of the lease has passed, which is not worth
/// a call.
pub(crate) fn extended(role: &RoleConfig, until: i64, now: i64) -> Option<i64> {
    let end = end(role, now);
    let Lease::For(time) = role.lease.unwrap_or_default() else { return (until != 0).then_some(0) };
    let worth = i64::try_from(time.as_secs() / 10).unwrap_or(i64::MAX);
    (until != 0 && end.saturating_sub(until) >= worth.max(1)).then_some(end)
}

/// Whether a lease that ends at `until` has expired; 0 never expires.
pub(crate) fn is_over(until: i64, now: i64) -> bool {
    until != 0 && until <= now
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(lease: Lease) -> RoleConfig {
        RoleConfig { lease: Some(lease), ..RoleConfig::default() }
    }

    #[test]
    fn a_use_extends_a_lease_when_a_tenth_has_passed() {
        let hour = role(Lease::For(Duration::from_secs(3600)));
        assert_eq!(end(&hour, 1_000), 4_600);
        assert_eq!(extended(&hour, 4_600, 1_300), None);
        assert_eq!(extended(&hour, 4_600, 1_360), Some(4_960));
        assert_eq!(extended(&hour, 4_600, 9_000), Some(12_600), "also when it is over");
        assert_eq!(extended(&hour, 0, 9_000), None, "what has no end needs no other");
    }

    #[test]
    fn no_lease_has_no_end() {
        let unlimited = role(Lease::Unlimited);
        assert_eq!(end(&unlimited, 1_000), 0);
        assert!(!is_over(0, i64::MAX));
        assert_eq!(extended(&unlimited, 4_600, 1_000), Some(0), "the setting was changed");
        assert!(is_over(999, 1_000) && !is_over(1_001, 1_000));
    }
}
