//! The process table.

use ratatui::{
    Frame,
    layout::Rect,
    style::{Modifier, Style},
    text::{Line, Span},
};

use super::{
    Look,
    cells::{self, or_dash},
    dim, lines,
};
use crate::{
    record::{
        names::user_name,
        selection::Sort,
        time::started,
        top::{Row, State},
    },
    render::text::printable,
};

/// A column: title, width, left alignment, and `from`, the minimum screen width to show it.
struct Column {
    title: &'static str,
    width: usize,
    left: bool,
    from: u16,
    value: fn(&Row, &Place) -> String,
}

/// Context of a value besides its row.
struct Place<'a> {
    sample: &'a record::Sample,
    look: &'a Look,
}

const COLUMNS: [Column; 12] = [
    Column {
        title: "PID",
        width: 7,
        left: false,
        from: 0,
        value: |row, _| row.process.identity.pid.to_string(),
    },
    Column {
        title: "USER",
        width: 8,
        left: true,
        from: 60,
        value: |row, _| printable(&user_name(row.process)),
    },
    Column { title: "S", width: 1, left: true, from: 0, value: |row, _| state(row.process.state) },
    Column {
        title: "CPU%",
        width: 5,
        left: false,
        from: 0,
        value: |row, _| or_dash(row.rates.cpu_percent.map(cells::percent)),
    },
    Column {
        title: "WAIT%",
        width: 5,
        left: false,
        from: 96,
        value: |row, _| or_dash(row.rates.wait_percent.map(cells::percent)),
    },
    Column {
        title: "FOOT",
        width: cells::SIZE,
        left: false,
        from: 0,
        value: |row, _| cells::kib(row.process.footprint_kib()),
    },
    Column {
        title: "RSS",
        width: cells::SIZE,
        left: false,
        from: 50,
        value: |row, _| cells::kib(row.process.resident_kib),
    },
    Column {
        title: "SWAP",
        width: cells::SIZE,
        left: false,
        from: 70,
        value: |row, _| or_dash(row.process.swap_kib.map(cells::kib)),
    },
    Column {
        title: "READ/s",
        width: 6,
        left: false,
        from: 80,
        value: |row, _| or_dash(row.rates.read_bytes.map(cells::rate)),
    },
    Column {
        title: "WRITE/s",
        width: 7,
        left: false,
        from: 80,
        value: |row, _| or_dash(row.rates.written_bytes.map(cells::rate)),
    },
    Column {
        title: "THR",
        width: 4,
        left: false,
        from: 104,
        value: |row, _| row.process.threads.to_string(),
    },
    Column {
        title: "START",
        width: 5,
        left: false,
        from: 112,
        value: |row, place| {
            let Place { sample, look } = place;
            cells::start(started(sample, row.process.identity), sample.wall_ms, &look.zone)
        },
    },
];

/// Draws the process table, scrolled so that the selected process is visible.
pub(super) fn draw(frame: &mut Frame, area: Rect, state: &State, look: &Look) {
    let Some(sample) = state.timeline.current() else {
        lines(frame, area, vec![Line::raw(""), Line::raw(empty(state))]);
        return;
    };
    let rows = state.rows();
    let place = Place { sample, look };
    let mut shown = vec![title(state, area.width)];
    let height = usize::from(area.height).saturating_sub(1);
    let selected = rows.iter().position(|row| Some(row.process.identity) == state.view.selected);
    let skipped = selected.map_or(0, |selected| (selected + 1).saturating_sub(height));
    let visible = rows.iter().enumerate().skip(skipped).take(height);
    shown.extend(visible.map(|(index, row)| line(row, &place, area.width, Some(index) == selected)));
    if rows.is_empty() {
        shown.push(Line::styled("no process matches the filter", dim()));
    }
    lines(frame, area, shown);
}

fn empty(state: &State) -> &'static str {
    if state.is_loading() { "reading the record …" } else { "the record is empty: no samples yet" }
}

fn title<'a>(state: &State, width: u16) -> Line<'a> {
    let sorted = match state.view.sort {
        Sort::Cpu => "CPU%",
        Sort::Rss => "RSS",
        Sort::Swap => "SWAP",
        Sort::Footprint => "FOOT",
        Sort::Io => "READ/s WRITE/s",
    };
    let base = Style::new().add_modifier(Modifier::REVERSED);
    let mut spans = Vec::new();
    for column in COLUMNS.iter().filter(|column| column.from <= width) {
        let is_key = sorted.split(' ').any(|title| title == column.title);
        let style = if is_key { base.add_modifier(Modifier::BOLD | Modifier::UNDERLINED) } else { base };
        let text = column.pad(column.title);
        let blank = text.len() - text.trim_start().len();
        spans.push(Span::styled(text[..blank].to_owned(), base));
        spans.push(Span::styled(text[blank..].to_owned(), style));
        spans.push(Span::styled(" ", base));
    }
    let used: usize = spans.iter().map(Span::width).sum();
    spans.push(Span::styled(format!("{:<1$}", "COMMAND", usize::from(width).saturating_sub(used)), base));
    Line::from(spans)
}

fn line<'a>(row: &Row<'a>, place: &Place, width: u16, selected: bool) -> Line<'a> {
    let mut text = String::new();
    for column in COLUMNS.iter().filter(|column| column.from <= width) {
        text.push_str(&column.pad(&(column.value)(row, place)));
        text.push(' ');
    }
    let command = command(row);
    // Filled to the edge, so that the whole line is highlighted when selected.
    let fill = " ".repeat(
        usize::from(width)
            .saturating_sub(text.chars().count() + row.branch.chars().count() + command.chars().count()),
    );
    let line = Line::from(vec![
        Span::raw(text),
        Span::styled(row.branch.clone(), dim()),
        Span::raw(command + &fill),
    ]);
    line.style(style(row, place.look, selected))
}

fn style(row: &Row, look: &Look, selected: bool) -> Style {
    let style = match row.process.state {
        _ if row.aside => dim(),
        b'D' | b'Z' => look.warn(),
        _ => Style::new(),
    };
    if selected { style.add_modifier(Modifier::REVERSED) } else { style }
}

impl Column {
    /// Pads a value to the column width; left-aligned values are cut if too long.
    fn pad(&self, value: &str) -> String {
        let width = self.width;
        match self.left {
            true => format!("{:<width$}", value.chars().take(width).collect::<String>()),
            false => format!("{value:>width$}"),
        }
    }
}

/// The command line, or the name in brackets if there is none.
fn command(row: &Row) -> String {
    match row.process.command.as_deref().filter(|command| !command.is_empty()) {
        Some(command) => printable(command),
        None => format!("[{}]", printable(&row.process.comm)),
    }
}

/// The kernel's state letter; `?` if it is not printable.
fn state(letter: u8) -> String {
    if letter.is_ascii_graphic() { char::from(letter).to_string() } else { "?".into() }
}
