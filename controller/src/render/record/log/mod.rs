//! The process log: one line per process and sample, by default date, time and the columns of `ps aux`:
//!
//! ```text
//! 2011-07-13 00:12:22 www-data 26096  21.4  0.9 160732   5972 ? D Jul12    5:30 /usr/sbin/apache2 -k start
//! ```
//!
//! Made for grep: one line is one process. Lines that start with `#` report gaps and events. Unknown values are `-`.

pub(super) mod cell;
pub(crate) mod column;
mod json;
pub(super) mod remark;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use jiff::tz::TimeZone;
use record::Columns;

use self::column::Column;

use crate::{
    record::log::{Entry, ProcessEntry},
    render::{csv, text::push_date_and_time},
};

/// Initial capacity of a line, bytes: most lines fit.
const USUAL_LINE: usize = 160;

/// Output format of the log.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// Aligned columns, times in this zone.
    Text(Vec<Column>, TimeZone),
    /// One JSON object per line, times in UTC.
    Json,
    /// CSV: the time, then these columns, times in UTC. Processes only.
    Csv(Vec<Column>),
}

impl Form {
    /// The columns of the record that this format needs.
    pub(crate) fn needs(&self) -> Columns {
        match self {
            Self::Json => Columns::ALL,
            Self::Text(columns, _) | Self::Csv(columns) => {
                columns.iter().fold(Columns::NONE, |needs, column| needs.with(column.needs()))
            }
        }
    }
}

/// Writes the column names: for text as `#` lines, units first; for CSV as the first row; nothing for JSON.
pub(crate) fn write_header(form: &Form, out: &mut dyn Write) -> io::Result<()> {
    match form {
        Form::Text(columns, _) => {
            let mut line = units(columns);
            line.push_str("#DATE     TIME    ");
            push_cells(&mut line, columns, |column, line| line.push_str(column.head()));
            out.write_all(line.as_bytes())
        }
        Form::Json => Ok(()),
        Form::Csv(columns) => {
            let keys = columns.iter().map(|column| column.key().into());
            out.write_all(csv::row(std::iter::once("at".into()).chain(keys)).as_bytes())
        }
    }
}

/// `# units: VSZ RSS in KiB, TIME in CPU minutes:seconds`; empty if no column has a unit.
fn units(columns: &[Column]) -> String {
    let mut units: Vec<(&str, Vec<&str>)> = Vec::new();
    for (unit, column) in columns.iter().filter_map(|column| Some((column.measure()?, column))) {
        match units.iter_mut().find(|(known, _)| *known == unit) {
            Some((_, heads)) => heads.push(column.head()),
            None => units.push((unit, vec![column.head()])),
        }
    }
    let units: Vec<_> = units.iter().map(|(unit, heads)| format!("{} {unit}", heads.join(" "))).collect();
    if units.is_empty() { String::new() } else { format!("# units: {}\n", units.join(", ")) }
}

/// Writes one entry and a newline.
pub(crate) fn write(entry: &Entry, form: &Form, out: &mut dyn Write) -> io::Result<()> {
    match (form, entry) {
        (Form::Text(columns, zone), Entry::Process(entry)) => write_process(entry, columns, zone, out),
        (Form::Text(_, zone), entry) => writeln!(out, "# {}", remark::sentence(entry, zone)),
        (Form::Json, entry) => {
            serde_json::to_writer(&mut *out, &json::Line::of(entry))?;
            out.write_all(b"\n")
        }
        (Form::Csv(columns), Entry::Process(entry)) => {
            let values = columns.iter().map(|column| column.value(entry));
            let at = entry.at.to_string().into();
            out.write_all(csv::row(std::iter::once(at).chain(values)).as_bytes())
        }
        (Form::Csv(_), _) => Ok(()),
    }
}

/// What CSV rows cannot hold: a sentence for stderr.
pub(crate) fn aside(entry: &Entry, form: &Form) -> Option<String> {
    match (form, entry) {
        (Form::Csv(_), Entry::Break(broken)) => Some(remark::break_sentence(broken, &TimeZone::UTC)),
        _ => None,
    }
}

fn write_process(
    entry: &ProcessEntry,
    columns: &[Column],
    zone: &TimeZone,
    out: &mut dyn Write,
) -> io::Result<()> {
    let at = entry.at.to_zoned(zone.clone());
    let mut line = String::with_capacity(USUAL_LINE);
    push_date_and_time(&mut line, &at);
    push_cells(&mut line, columns, |column, line| column.push_text(line, entry, &at));
    out.write_all(line.as_bytes())
}

fn push_cells(line: &mut String, columns: &[Column], fill: impl Fn(Column, &mut String)) {
    for (index, column) in columns.iter().enumerate() {
        line.push(' ');
        let start = line.len();
        fill(*column, line);
        column.pad(line, start, index + 1 == columns.len());
    }
    line.push('\n');
}
