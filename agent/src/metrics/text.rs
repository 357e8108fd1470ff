//! The OpenMetrics text format, version 1.0.

use std::fmt::Write;

/// A page of metrics being written.
#[derive(Debug, Default)]
pub(super) struct Text {
    page: String,
    of_machine: bool,
}

/// One family of it; its samples follow.
#[derive(Debug)]
pub(super) struct Family<'a> {
    page: &'a mut String,
    name: String,
    suffix: &'static str,
}

/// What the names of all families begin with.
const PREFIX: &str = "magpie_";

impl Text {
    /// Whether the families that follow are of a machine that is more than the host: then they have names of their own.
    pub(super) fn of_machine(&mut self, of_machine: bool) -> &mut Self {
        self.of_machine = of_machine;
        self
    }

    /// A family of values that go up and down.
    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, "gauge", "", help)
    }

    /// A family of values that only grow; the samples' names end in `_total`.
    pub(super) fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, "counter", "_total", help)
    }

    /// Something that is known by its labels.
    pub(super) fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        self.family(name, "info", "_info", help).value(labels, 1.0);
    }

    fn family(&mut self, name: &str, kind: &str, suffix: &'static str, help: &str) -> Family<'_> {
        let (whose, of_whom) =
            if self.of_machine { ("machine_", ", of the whole machine") } else { ("", "") };
        let name = format!("{PREFIX}{whose}{}", name.strip_prefix(PREFIX).unwrap_or(name));
        let _ = writeln!(self.page, "# TYPE {name} {kind}\n# HELP {name} {help}{of_whom}");
        Family { page: &mut self.page, name, suffix }
    }

    /// The whole page.
    pub(super) fn finish(mut self) -> String {
        self.page.push_str("# EOF\n");
        self.page
    }
}

impl Family<'_> {
    /// One sample.
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

    /// One sample, if there is a value.
    pub(super) fn some(&mut self, labels: &[(&str, &str)], value: Option<f64>) -> &mut Self {
        match value {
            Some(value) => self.value(labels, value),
            None => self,
        }
    }
}

/// Backslash, quote and newline are escaped in the values of labels.
fn escaped(character: char) -> impl Iterator<Item = char> {
    let (first, second) = match character {
        '\\' => ('\\', Some('\\')),
        '"' => ('\\', Some('"')),
        '\n' => ('\\', Some('n')),
        other => (other, None),
    };
    std::iter::once(first).chain(second)
}
