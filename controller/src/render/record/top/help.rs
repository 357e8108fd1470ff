//! The help popup: keys, columns and marks.

use ratatui::{
    Frame,
    layout::{Constraint, Rect},
    text::Line,
    widgets::{Block, Clear, Paragraph},
};

const KEYS: [(&str, &str); 18] = [
    ("← →", "one sample back or forward"),
    ("Shift ← →, [ ]", "one minute back or forward"),
    ("PgUp PgDn", "ten minutes back or forward"),
    ("Home End", "start of the record, live"),
    ("n N", "next or previous mark"),
    ("Space", "pause, resume"),
    ("c r s f i", "sort by CPU, RSS, swap, footprint, I/O"),
    ("t", "tree"),
    ("/", "filter by command, user, unit or pid"),
    ("↑ ↓, Enter", "select a process, show its details"),
    ("q, Ctrl-C", "quit"),
    ("", ""),
    ("CPU% WAIT%", "% of the interval running, waiting; 100 is one CPU"),
    ("READ/s WRITE/s", "I/O; - if it may be that of exited children"),
    ("FOOT", "footprint: anonymous memory, resident or swapped out"),
    ("PSI", "share of the interval in which some/all tasks stalled"),
    ("CPU bar", "█ user ▓ system ▒ iowait ░ steal"),
    ("marks", "✗ OOM kill ↻ restart ▲△ run ! kernel · gap i note"),
];

/// Draws the popup in the middle of the screen.
pub(super) fn draw(frame: &mut Frame, area: Rect) {
    let lines: Vec<_> = KEYS.iter().map(|(key, what)| Line::raw(format!("{key:<15} {what}"))).collect();
    let size = (Constraint::Length(76), Constraint::Length(lines.len() as u16 + 2));
    let area = area.centered(size.0, size.1);
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys ")), area);
}
