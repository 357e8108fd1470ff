//! Comma-separated values (RFC 4180), with a newline after each row.

use super::text::printable;

/// One row. What a host says commands neither a terminal that it is shown on nor a spreadsheet that it is opened in.
pub(super) fn row<'a>(cells: impl IntoIterator<Item = std::borrow::Cow<'a, str>>) -> String {
    let cells: Vec<_> = cells.into_iter().map(|cell| quoted(&inert(&cell))).collect();
    cells.join(",") + "\n"
}

/// A cell that a spreadsheet would take for a formula is made text by a `'` (OWASP, CSV Injection). Numbers stay numbers.
fn inert(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && cell.parse::<f64>().is_err();
    let mark = if is_formula { "'" } else { "" };
    format!("{mark}{}", printable(cell))
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

    #[test]
    fn a_name_is_no_formula_and_a_number_stays_one() {
        let cells =
            ["=HYPERLINK(\"x\")", "@SUM(1)", "-k start", "+x", "\t=1", "\r=1", "-", "-3.5", "+4", "1e9"];
        assert_eq!(
            row(cells.map(Into::into)),
            "\"'=HYPERLINK(\"\"x\"\")\",'@SUM(1),'-k start,'+x,'\\t=1,'\\r=1,'-,-3.5,+4,1e9\n"
        );
    }
}
