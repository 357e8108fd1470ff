//! The screen of `ctl top`: draws the model's state. No logic here.

mod cells;
mod details;
mod exits;
mod header;
mod help;
mod processes;
mod status;
mod strip;
mod terminal;
#[cfg(test)]
mod tests;

pub(crate) use terminal::Screen;

use jiff::tz::TimeZone;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
};

use crate::record::top::{Popup, State};

/// Minimum size (columns, lines) to show process exits.
const WIDE: (u16, u16) = (100, 30);
/// Below this height, the header and time line shrink to leave room for processes.
const LOW: u16 = 16;

/// Display settings besides the state.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// Current time, ms since the Unix epoch.
    pub now_ms: i64,
    /// Time zone of the times shown.
    pub zone: TimeZone,
    /// Whether to use colours.
    pub colour: bool,
}

/// Draws the whole screen.
pub(crate) fn draw(frame: &mut Frame, state: &State, look: &Look) {
    let area = frame.area();
    let low = area.height < LOW;
    let ends = match area.width >= WIDE.0 && area.height >= WIDE.1 {
        true => exits::height(state, area.height / 4),
        false => 0,
    };
    let heights = [if low { 2 } else { header::LINES }, if low { 0 } else { strip::LINES }];
    let [head, line, table, ended, bottom] = Layout::vertical([
        Constraint::Length(heights[0]),
        Constraint::Length(heights[1]),
        Constraint::Min(0),
        Constraint::Length(ends),
        Constraint::Length(1),
    ])
    .areas(area);
    lines(frame, head, header::lines(state, look, head.width));
    lines(frame, line, strip::lines(state, look, line.width));
    processes::draw(frame, table, state, look);
    lines(frame, ended, exits::lines(state, look));
    lines(frame, bottom, vec![status::line(state, look)]);
    let below = Rect { height: table.height + ended.height, ..table };
    match state.popup {
        Popup::Help => help::draw(frame, area),
        Popup::Details(identity) => details::draw(frame, below, state, identity, look),
        Popup::Nothing | Popup::Filter => {}
    }
}

/// Draws lines from the top of an area, as many as fit.
fn lines(frame: &mut Frame, area: Rect, lines: Vec<Line>) {
    for (line, y) in lines.into_iter().zip(area.top()..area.bottom()) {
        frame.render_widget(line, Rect { y, height: 1, ..area });
    }
}

impl Look {
    fn paint(&self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn good(&self) -> Style {
        self.paint(Color::Green)
    }

    fn warn(&self) -> Style {
        self.paint(Color::Yellow)
    }

    fn bad(&self) -> Style {
        self.paint(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn label(&self) -> Style {
        self.paint(Color::Cyan)
    }

    /// Plain, yellow from `warn`, red from `bad`.
    fn graded(&self, value: f64, warn: f64, bad: f64) -> Style {
        match value {
            value if value >= bad => self.bad(),
            value if value >= warn => self.warn(),
            _ => Style::new(),
        }
    }
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn label<'a>(text: &'a str, look: &Look) -> Span<'a> {
    Span::styled(text, look.label())
}
