//! Paths in a bundle as text: parts joined by `/`, none of them empty, `.` or `..`.

use std::collections::BTreeMap;

/// The entries below a directory; an empty path means the root.
pub(super) fn below<'l, T>(
    entries: &'l BTreeMap<String, T>,
    directory: &str,
) -> impl Iterator<Item = (&'l String, &'l T)> + use<'l, T> {
    let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
    entries.range(prefix.clone()..).take_while(move |(path, _)| path.starts_with(&prefix))
}

/// Joins two parts of a path; either may be empty.
pub(super) fn join(prefix: &str, path: &str) -> String {
    match (prefix, path) {
        ("", path) => path.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, path) => format!("{prefix}/{path}"),
    }
}

/// The relative path from the directory of the link at `path` to `target`, both in the bundle.
pub(super) fn relative(path: &str, target: &str) -> String {
    let names =
        |path: &str| path.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (mut from, to) = (names(path), names(target));
    from.pop();
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..", from.len() - shared);
    let way: Vec<&str> = up.chain(to[shared..].iter().map(String::as_str)).collect();
    if way.is_empty() { ".".to_owned() } else { way.join("/") }
}
