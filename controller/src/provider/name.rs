//! `<role>-<n>`: what people call a host.

/// The lowest number above 0 whose name is not among `taken`, as a name.
pub fn free<'a>(role: &str, taken: impl IntoIterator<Item = &'a str>) -> String {
    // A host name has no underscores (RFC 952), a role may.
    let role = role.replace('_', "-");
    let number = |name: &str| name.strip_prefix(&role)?.strip_prefix('-')?.parse().ok();
    let taken: std::collections::BTreeSet<u32> = taken.into_iter().filter_map(number).collect();
    let free = (1..).find(|number| !taken.contains(number)).unwrap_or(u32::MAX);
    format!("{role}-{free}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_taken() {
        assert_eq!(free("db", []), "db-1");
        assert_eq!(free("db", ["db-1", "db-3", "db-x", "dbx-2", "web-2"]), "db-2");
        assert_eq!(free("web_edge", ["web-edge-1"]), "web-edge-2");
    }
}
