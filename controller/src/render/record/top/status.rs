//! The last line: connection problems, notices, filter and marks; otherwise the keys.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::{Look, dim, strip};
use crate::{
    record::top::{Link, Popup, State},
    render::text::printable,
};

const KEYS: &str = "←→ sample  [ ] minute  n N marks  End live  crsfi sort  t tree  / filter  ? help";

/// Renders the status line.
pub(super) fn line<'a>(state: &State, look: &Look) -> Line<'a> {
    if state.popup == Popup::Filter {
        return Line::raw(format!("/{}_   Enter: keep, Esc: clear", printable(&state.view.filter)));
    }
    let mut spans = Vec::new();
    if let Link::Down(why) = &state.link {
        spans.push(Span::styled(format!("no connection, retrying: {}  ", printable(why)), look.bad()));
    }
    if let Some(notice) = &state.notice {
        spans.push(Span::styled(format!("{}  ", printable(notice)), look.warn()));
    }
    if !state.view.filter.is_empty() {
        spans.push(Span::raw(format!("/{}  ", printable(&state.view.filter))));
    }
    for (kind, text) in state.marks_here() {
        spans.push(Span::styled(format!("{} ", kind.symbol()), strip::style(kind, look)));
        spans.push(Span::styled(format!("{}  ", printable(&text)), Style::new()));
    }
    if spans.is_empty() {
        spans.push(Span::styled(KEYS, dim()));
    }
    Line::from(spans)
}
