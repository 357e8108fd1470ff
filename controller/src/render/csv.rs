//! Comma-separated values (RFC 4180), with a newline after each row.

use super::text::printable;

/// One row, escaped so that text from a host cannot control a terminal or a spreadsheet.
pub(super) fn row<'a>(cells: impl IntoIterator<Item = std::borrow::Cow<'a, str>>) -> String {
    let cells: Vec<_> = cells.into_iter().map(|cell| quoted(&inert(&cell))).collect();
    cells.join(",") + "\n"
}

/// Prefixes a cell that a spreadsheet would run as a formula with `'` (OWASP, CSV Injection). Numbers stay numbers.
fn inert(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && cell.parse::<f64>().is_err();
    let mark = if is_formula { "'" } else { "" };
    format!("{mark}{}", printable(cell))
}

/// One row with an object's values for these keys.
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
    fn a_formula_becomes_text_and_a_number_stays_a_number() {
        let cells =
            ["=HYPERLINK(\"x\")", "@SUM(1)", "-k start", "+x", "\t=1", "\r=1", "-", "-3.5", "+4", "1e9"];
        assert_eq!(
            row(cells.map(Into::into)),
            "\"'=HYPERLINK(\"\"x\"\")\",'@SUM(1),'-k start,'+x,'\\t=1,'\\r=1,'-,-3.5,+4,1e9\n"
        );
    }
}
