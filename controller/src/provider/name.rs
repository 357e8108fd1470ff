//! Host names: `<role>-<n>`.

use std::collections::BTreeSet;

use super::Host;

/// The name with the lowest number from 1 that is not in `taken`.
pub(crate) fn free<'a>(role: &str, taken: impl IntoIterator<Item = &'a str>) -> String {
    // A role may contain underscores, a host name may not (RFC 952).
    let role = role.replace('_', "-");
    let number = |name: &str| name.strip_prefix(&role)?.strip_prefix('-')?.parse().ok();
    let taken: BTreeSet<u32> = taken.into_iter().filter_map(number).collect();
    let free = (1..).find(|number| !taken.contains(number)).unwrap_or(u32::MAX);
    format!("{role}-{free}")
}

/// Makes host names unique: two controllers that launch at the same time may choose the same name. The oldest host
/// keeps its name, the others get free ones. The result depends on the hosts only, so all controllers agree.
pub(crate) fn make_unique(hosts: &mut [Host]) {
    let mut taken: BTreeSet<String> = hosts.iter().map(|host| host.name.clone()).collect();
    let mut by_age: Vec<usize> = (0..hosts.len()).collect();
    by_age.sort_by_key(|&index| (hosts[index].launched_at, hosts[index].id.clone()));
    let mut given = BTreeSet::new();
    for index in by_age {
        let host = &mut hosts[index];
        if given.contains(&host.name) {
            host.name = free(&host.role, taken.iter().map(String::as_str));
            taken.insert(host.name.clone());
        }
        given.insert(host.name.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Kind;

    fn host(name: &str, id: &str, launched_at: i64) -> Host {
        Host { launched_at, ..Host::example(Kind::Local, id, name) }
    }

    #[test]
    fn of_two_with_one_name_the_younger_gets_another() {
        let mut hosts =
            [host("db-1", "b", 2), host("db-1", "a", 1), host("db-2", "c", 3), host("db-1", "d", 2)];
        make_unique(&mut hosts);
        let names: Vec<_> = hosts.iter().map(|host| host.name.as_str()).collect();
        assert_eq!(names, ["db-3", "db-1", "db-2", "db-4"]);
    }

    #[test]
    fn the_lowest_free_number_is_taken() {
        assert_eq!(free("db", []), "db-1");
        assert_eq!(free("db", ["db-1", "db-3", "db-x", "dbx-2", "web-2"]), "db-2");
        assert_eq!(free("web_edge", ["web-edge-1"]), "web-edge-2");
    }
}
