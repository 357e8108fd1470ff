//! Comma-separated values (RFC 4180), with a newline after each row.

use super::text::printable;

/// One row. What a host says cannot command a terminal that it is shown on.
pub(super) fn row<'a>(cells: impl IntoIterator<Item = std::borrow::Cow<'a, str>>) -> String {
    let cells: Vec<_> = cells.into_iter().map(|cell| quoted(&printable(&cell))).collect();
    cells.join(",") + "\n"
}

/// One row of what an object has under these keys.
pub(super) fn values(object: &serde_json::Value, keys: &[&str]) -> String {
    row(keys.iter().map(|key| match &object[key] {
        serde_json::Value::Null => "".into(),
        serde_json::Value::String(text) => text.as_str().into(),
        other => other.to_string().into(),
    }))
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        let cells = ["a", "b c", "d,e", "f\"g", "h\ni", ""].map(Into::into);
        assert_eq!(row(cells), "a,b c,\"d,e\",\"f\"\"g\",h\\ni,\n");
    }
}
