//! Writes the OpenMetrics text format, version 1.0.

use std::fmt::Write;

/// A page of metrics in progress.
#[derive(Debug, Default)]
pub(super) struct Text {
    page: String,
    of_machine: bool,
}

/// A metric family whose samples are written next.
#[derive(Debug)]
pub(super) struct Family<'a> {
    page: &'a mut String,
    name: String,
    suffix: &'static str,
}

/// Prefix of all family names.
const PREFIX: &str = "magpie_";

impl Text {
    /// Whether the next families describe a whole machine of which the host is only a part: then their names start with
    /// `magpie_machine_`.
    pub(super) fn of_machine(&mut self, of_machine: bool) -> &mut Self {
        self.of_machine = of_machine;
        self
    }

    /// Starts a family whose values can go up and down.
    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, "gauge", "", help)
    }

    /// Starts a family whose values only grow; the samples' names end in `_total`.
    pub(super) fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, "counter", "_total", help)
    }

    /// Writes a family with one sample whose labels are the information.
    pub(super) fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        self.family(name, "info", "_info", help).value(labels, 1.0);
    }

    fn family(&mut self, name: &str, kind: &str, suffix: &'static str, help: &str) -> Family<'_> {
        let (prefix, scope) = if self.of_machine { ("machine_", ", of the whole machine") } else { ("", "") };
        let name = format!("{PREFIX}{prefix}{}", name.strip_prefix(PREFIX).unwrap_or(name));
        let _ = writeln!(self.page, "# TYPE {name} {kind}\n# HELP {name} {help}{scope}");
        Family { page: &mut self.page, name, suffix }
    }

    /// Ends the page and returns it.
    pub(super) fn finish(mut self) -> String {
        self.page.push_str("# EOF\n");
        self.page
    }
}

impl Family<'_> {
    /// Writes a sample.
    pub(super) fn value(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Self {
        self.page.push_str(&self.name);
        self.page.push_str(self.suffix);
        for (index, (name, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.page, "{before}{name}=\"");
            self.page.extend(text.chars().flat_map(escaped));
            self.page.push('"');
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.page, "{after} {value}");
        self
    }

    /// Writes a sample if there is a value.
    pub(super) fn some(&mut self, labels: &[(&str, &str)], value: Option<f64>) -> &mut Self {
        match value {
            Some(value) => self.value(labels, value),
            None => self,
        }
    }
}

/// Escapes backslash, quote and newline in label values.
fn escaped(character: char) -> impl Iterator<Item = char> {
    let (first, second) = match character {
        '\\' => ('\\', Some('\\')),
        '"' => ('\\', Some('"')),
        '\n' => ('\\', Some('n')),
        other => (other, None),
    };
    std::iter::once(first).chain(second)
}
