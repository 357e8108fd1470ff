//! Owner of a process: its user, and the systemd unit of its control group (systemd.resource-control(5), named as in
//! `systemd-cgls`).

use std::sync::Arc;

use record::Process;

/// The unescaped unit: the innermost service, scope, mount, socket or swap unit in the path; for a user's processes, a
/// unit of the user's own manager.
pub(crate) fn unit(cgroup: &str) -> Option<&str> {
    // A zombie may outlive its group (cgroups(7)).
    let cgroup = cgroup.strip_suffix(" (deleted)").unwrap_or(cgroup);
    cgroup.rsplit('/').map(unescaped).find(|part| is_unit(part))
}

/// Removes the leading underscore that keeps a name from clashing with the kernel's files.
fn unescaped(part: &str) -> &str {
    part.strip_prefix('_').unwrap_or(part)
}

fn is_unit(part: &str) -> bool {
    let Some((name, kind)) = part.rsplit_once('.') else { return false };
    !name.is_empty() && matches!(kind, "service" | "scope" | "mount" | "socket" | "swap")
}

/// User name, else the user id, else `?`.
pub(crate) fn user_name(process: &Process) -> Arc<str> {
    match (&process.user, process.uid) {
        (Some(name), _) => Arc::clone(name),
        (None, Some(uid)) => uid.to_string().into(),
        (None, None) => "?".into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_innermost_unit_is_used() {
        for (cgroup, expected) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service")),
            ("/user.slice/user-0.slice/session-3.scope", Some("session-3.scope")),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service", Some("foo.service")),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope", Some("init.scope")),
            // A container that manages groups below its own unit.
            ("/system.slice/docker.service/workers/3", Some("docker.service")),
            ("/system.slice/_foo.bar.service", Some("foo.bar.service")),
            ("/system.slice/backup.service (deleted)", Some("backup.service")),
            ("/init.scope", Some("init.scope")),
            ("/system.slice", None),
            ("/", None),
            ("", None),
            ("/.service", None),
        ] {
            assert_eq!(unit(cgroup), expected, "{cgroup}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_read_and_a_unit_is_part_of_it(path in "[a-z_./@-]{0,40}|\\PC{0,40}") {
            prop_assert!(unit(&path).is_none_or(|unit| path.contains(unit) && !unit.contains('/')));
        }
    }
}
