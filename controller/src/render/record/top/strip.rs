//! The time line: CPU, memory pressure and marks of the whole window; the current column is highlighted.

use ratatui::{
    style::{Modifier, Style},
    text::{Line, Span},
};

use super::{Look, cells, label};
use crate::record::top::{HostRates, Mark, MarkKind, State};

/// Height of the time line.
pub(super) const LINES: u16 = 3;
/// Width of the labels left of the graphs.
const LABEL: usize = 10;

/// One column of the graphs: one or more consecutive samples.
#[derive(Clone, Copy, Debug, Default)]
struct Column {
    cpu: Option<f64>,
    memory: Option<f64>,
    mark: Option<MarkKind>,
    here: bool,
}

/// Renders the time line of the window.
pub(super) fn lines<'a>(state: &State, look: &'a Look, width: u16) -> Vec<Line<'a>> {
    let Some(first) = state.timeline.get(0) else { return Vec::new() };
    let columns = columns(state, usize::from(width).saturating_sub(LABEL));
    let begin = format!("{:<LABEL$}", cells::clock(first.wall_ms, &look.zone));
    // As in the header, `*` marks machine-wide values.
    let part = first.is_part_of_machine();
    let own = !part || first.host.cgroup_pressure_memory_some_us.is_some();
    vec![
        graph(label(if part { "CPU*      " } else { "CPU       " }, look), &columns, |column| {
            (cells::level(column.cpu), look.good())
        }),
        graph(label(if own { "mem wait  " } else { "mem wait* " }, look), &columns, |column| {
            (cells::level(column.memory), look.graded(column.memory.unwrap_or(0.0), 10.0, 40.0))
        }),
        graph(Span::raw(begin), &columns, |column| match column.mark {
            Some(kind) => (kind.symbol(), style(kind, look)),
            None => (if column.here { '^' } else { ' ' }, Style::new()),
        }),
    ]
}

/// Colour of a mark.
pub(super) fn style(kind: MarkKind, look: &Look) -> Style {
    match kind {
        MarkKind::OomKill | MarkKind::Restart => look.bad(),
        MarkKind::RunBegin | MarkKind::RunEnd => look.good(),
        MarkKind::Kernel | MarkKind::Gap => look.warn(),
        MarkKind::Note => look.label(),
    }
}

fn graph<'a>(label: Span<'a>, columns: &[Column], cell: impl Fn(&Column) -> (char, Style)) -> Line<'a> {
    let cell = |column: &Column| {
        let (symbol, style) = cell(column);
        let here = if column.here { Modifier::REVERSED } else { Modifier::empty() };
        Span::styled(symbol.to_string(), style.add_modifier(here))
    };
    Line::from_iter([label].into_iter().chain(columns.iter().map(cell)))
}

/// Groups samples into columns so that all fit. A column keeps its samples while the window moves, so that the graphs
/// scroll and do not flicker.
fn columns(state: &State, width: usize) -> Vec<Column> {
    let timeline = &state.timeline;
    // A first column that is only partly in the window needs one more column.
    let per = timeline.len().div_ceil(width.saturating_sub(1).max(1)).max(1) as i64;
    let first = timeline.base().div_euclid(per);
    let place = |index: usize| ((timeline.base() + index as i64).div_euclid(per) - first) as usize;
    let mut columns = vec![Column::default(); (place(timeline.len().saturating_sub(1)) + 1).min(width)];
    for (index, sample) in timeline.samples().enumerate() {
        let Some(column) = columns.get_mut(place(index)) else { continue };
        let rates = HostRates::of(timeline.before(index).map(|before| &**before), sample);
        column.cpu = larger(column.cpu, rates.cpu.map(|shares| shares.busy()));
        column.memory = larger(column.memory, rates.pressure.memory_some);
        column.here |= index == timeline.cursor();
    }
    for Mark { index, kind, .. } in state.marks() {
        if let Some(column) = columns.get_mut(place(index)) {
            column.mark = Some(column.mark.map_or(kind, |present| present.min(kind)));
        }
    }
    columns
}

fn larger(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}
