//! Processes that exited in the interval.

use ratatui::text::{Line, Span};
use record::{Exit, ExitGroup};

use super::{Look, cells, dim, label};
use crate::{
    record::{exits::Ending, top::State},
    render::text::{duration, printable},
};

/// Lines needed, at most `most`; 0 if no process exited.
pub(super) fn height(state: &State, most: u16) -> u16 {
    let count = state.timeline.current().map_or(0, |sample| sample.exits.len() + sample.exit_groups.len());
    if count == 0 { 0 } else { u16::try_from(count + 1).unwrap_or(most).min(most) }
}

/// A title, then one line per exit, most CPU first.
pub(super) fn lines<'a>(state: &State, look: &'a Look) -> Vec<Line<'a>> {
    let Some(sample) = state.timeline.current() else { return Vec::new() };
    let mut ends: Vec<_> = sample.exits.iter().map(|exit| (cpu_us(exit), one(exit))).collect();
    ends.extend(sample.exit_groups.iter().map(|group| (group.cpu_us, many(group))));
    ends.sort_by_key(|(cpu_us, _)| std::cmp::Reverse(*cpu_us));
    let grouped: u64 = sample.exit_groups.iter().map(|group| group.count).sum();
    let failed = sample.exits.iter().filter(|exit| exit.status != 0).count() as u64
        + sample.exit_groups.iter().map(|group| group.failed).sum::<u64>();
    let total = sample.exits.len() as u64 + grouped;
    let title = Line::from(vec![
        label("ended ", look),
        Span::raw(format!("{total} in this interval, {failed} failed")),
    ]);
    [title].into_iter().chain(ends.into_iter().map(|(_, text)| Line::styled(text, dim()))).collect()
}

fn one(exit: &Exit) -> String {
    format!(
        "{:>7} {:<16} {:<9} lived {:<12} cpu {:<9} peak {:>5}",
        exit.identity.pid,
        printable(&exit.comm),
        ending(exit.status),
        duration(exit.lived_us / 1_000),
        duration(cpu_us(exit) / 1_000),
        cells::kib(exit.peak_kib),
    )
}

fn many(group: &ExitGroup) -> String {
    format!(
        "{:>7} {:<16} {:<9} {:18} cpu {:<9} peak {:>5}",
        format!("×{}", group.count),
        printable(&group.comm),
        if group.failed > 0 { format!("{} failed", group.failed) } else { String::new() },
        "",
        duration(group.cpu_us / 1_000),
        cells::kib(group.peak_kib),
    )
}

fn cpu_us(exit: &Exit) -> u64 {
    exit.user_us.saturating_add(exit.system_us)
}

/// Exit code or signal, in a word.
pub(super) fn ending(status: u32) -> String {
    match Ending::of(status) {
        Ending::Code(code) => format!("exit {code}"),
        signal => signal.signal_name().unwrap_or_default(),
    }
}
